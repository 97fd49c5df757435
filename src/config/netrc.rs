//! `~/.netrc`: who logs in where, as curl, lftp and ftp have it.
//!
//! Read strictly: a word that is not known is an error that names its line, as one that was passed
//! over might have been the name of a machine. No word of the file is repeated in an error.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::secret::Secret;

/// What a `.netrc` says.
#[derive(Clone, Debug, Default)]
pub struct Netrc {
    machines: Vec<Machine>,
}

#[derive(Clone, Debug, Default)]
struct Machine {
    /// None for `default`, which is every machine.
    host: Option<String>,
    login: Option<String>,
    password: Option<Secret>,
}

/// Walks through words, which blanks and ends of lines separate.
struct Words<'a> {
    rest: &'a [u8],
    line: usize,
}

impl<'a> Words<'a> {
    fn skip(&mut self, count: usize) {
        let (gone, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.line += gone.iter().filter(|&&byte| byte == b'\n').count();
        self.rest = rest;
    }

    fn skip_blanks(&mut self) {
        let blanks = self.rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.skip(blanks);
    }

    fn skip_line(&mut self) {
        let end = self.rest.iter().position(|&byte| byte == b'\n');
        self.skip(end.unwrap_or(self.rest.len()));
    }

    /// Returns the next word that says what follows.
    fn keyword(&mut self) -> Option<&'a [u8]> {
        loop {
            self.skip_blanks();
            if self.rest.first() != Some(&b'#') {
                break;
            }
            self.skip_line();
        }
        let end = self.rest.iter().position(u8::is_ascii_whitespace).unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        self.skip(end);
        (!word.is_empty()).then_some(word)
    }

    fn error(&self, message: &str) -> Error {
        Error::invalid(format!("line {}: {message}", self.line))
    }

    /// Returns the word behind a keyword. In quotes it may hold blanks, and a backslash keeps the
    /// next.
    fn value(&mut self) -> Result<Vec<u8>> {
        self.skip_blanks();
        let is_quoted = self.rest.first() == Some(&b'"');
        let mut value = Vec::new();
        let mut at = usize::from(is_quoted);
        loop {
            match (is_quoted, self.rest.get(at)) {
                (true, Some(b'"')) => {
                    at += 1;
                    break;
                }
                (true, Some(b'\\')) => {
                    let next = self.rest.get(at + 1).copied();
                    let next = next.ok_or_else(|| self.error("it ends within quotes"))?;
                    value.push(match next {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        other => other,
                    });
                    at += 2;
                }
                (true, None | Some(b'\n')) => return Err(self.error("it ends within quotes")),
                (false, None) => break,
                (false, Some(byte)) if byte.is_ascii_whitespace() => break,
                (_, Some(&byte)) => {
                    value.push(byte);
                    at += 1;
                }
            }
        }
        if at == 0 {
            return Err(self.error("a word is missing"));
        }
        self.skip(at);
        Ok(value)
    }

    fn text(&mut self) -> Result<String> {
        String::from_utf8(self.value()?).map_err(|_| self.error("a name is not UTF-8"))
    }

    /// Passes over a macro, which ends with an empty line.
    fn skip_macro(&mut self) {
        loop {
            self.skip_line();
            self.skip(1);
            let end = self.rest.iter().position(|&byte| byte == b'\n').unwrap_or(self.rest.len());
            if self.rest.is_empty() || self.rest[..end].trim_ascii().is_empty() {
                return;
            }
        }
    }
}

impl Netrc {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// `InvalidInput` that names the line.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let mut words = Words { rest: text, line: 1 };
        let mut netrc = Netrc::default();
        while let Some(word) = words.keyword() {
            match word {
                b"machine" => {
                    let machine = Machine { host: Some(words.text()?), ..Machine::default() };
                    netrc.machines.push(machine);
                    continue;
                }
                b"default" => {
                    netrc.machines.push(Machine::default());
                    continue;
                }
                b"macdef" => {
                    words.value()?;
                    words.skip_macro();
                    continue;
                }
                b"login" | b"password" | b"account" => {}
                _ => {
                    return Err(words
                        .error("a word is not known")
                        .hint("a password with blanks or # is written in quotes"));
                }
            }
            let Some(machine) = netrc.machines.last_mut() else {
                return Err(words.error("there is no machine before this"));
            };
            match word {
                b"login" => machine.login = Some(words.text()?),
                b"password" => machine.password = Some(Secret::new(words.value()?)),
                _ => drop(words.value()?),
            }
        }
        Ok(netrc)
    }

    /// Returns who logs in to a host, and the password; of a user when one is given.
    pub fn find(&self, host: &str, user: Option<&str>) -> Option<(Option<&str>, Option<&Secret>)> {
        let fits = |machine: &&Machine| {
            let is_host = machine.host.as_ref().is_none_or(|it| it.eq_ignore_ascii_case(host));
            let login = machine.login.as_deref();
            is_host && (user.is_none() || login.is_none() || login == user)
        };
        let machine = self.machines.iter().find(fits)?;
        Some((machine.login.as_deref(), machine.password.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::any;
    use proptest::prelude::prop;
    use proptest::proptest;

    fn found(text: &str, host: &str, user: Option<&str>) -> Option<(String, String)> {
        let netrc = Netrc::parse(text.as_bytes()).expect(text);
        let (login, password) = netrc.find(host, user)?;
        let password = password.map(|it| String::from_utf8_lossy(it.expose()).into_owned());
        Some((login.unwrap_or("-").to_owned(), password.unwrap_or("-".to_owned())))
    }

    fn pair(login: &str, password: &str) -> Option<(String, String)> {
        Some((login.to_owned(), password.to_owned()))
    }

    #[test]
    fn the_first_machine_that_fits_counts() {
        let text = "# mine\nmachine a.example login me password one\n\
            machine b.example\n\tlogin you\n\tpassword \"t w\\\"o#\"\n\taccount x\n\
            machine b.example login me password three # mine, too\n";
        assert_eq!(found(text, "A.example", None), pair("me", "one"));
        assert_eq!(found(text, "b.example", None), pair("you", "t w\"o#"));
        assert_eq!(found(text, "b.example", Some("me")), pair("me", "three"));
        assert_eq!(found(text, "b.example", Some("them")), None);
        assert_eq!(found(text, "c.example", None), None);
    }

    #[test]
    fn default_is_every_machine_and_macros_are_passed_over() {
        let text = "macdef init\nmachine no login no\n\nmachine a login me\n\
            default login anonymous password me@here";
        assert_eq!(found(text, "no", None), pair("anonymous", "me@here"));
        assert_eq!(found(text, "a", None), pair("me", "-"));
    }

    #[test]
    fn what_is_not_understood_is_an_error_with_its_line_and_no_secret() {
        for (text, line) in [
            ("machine a login me\n  password hunter2 hunter2x", 2),
            ("\nlogin me", 2),
            ("machine", 1),
            ("machine a password", 1),
            ("machine a password \"hunter2", 1),
            ("machine a password \"hunter2\nx\"", 1),
            ("port 21", 1),
        ] {
            let error = Netrc::parse(text.as_bytes()).expect_err(text);
            let message = error.full_message();
            assert!(message.starts_with(&format!("line {line}:")), "{text}: {message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_reason_to_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Netrc::parse(&text);
        }

        #[test]
        fn words_in_any_order_are_no_reason_to_panic(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "machine", "login", "password", "default", "macdef", "account", "\"", "\\",
                    "#", "\n", " ", "\n\n", "x", "\"a b\"", "\u{e9}",
                ]),
                0..40,
            ),
        ) {
            let _ = Netrc::parse(words.concat().as_bytes());
            let _ = Netrc::parse(words.join(" ").as_bytes());
        }
    }
}
