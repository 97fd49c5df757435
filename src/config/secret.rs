//! Passwords: from the environment, a file, a command, or a person at a terminal.
//!
//! What comes from outside is taken as bytes, with one newline at its end dropped; nothing else
//! is changed or refused. A password never stands in an error.

use crate::base::error::Error;
use crate::base::error::ErrorKind;
use crate::base::error::Result;
use crate::base::path::display;
use crate::base::secret::Secret;
use crate::config::places;
use std::fmt;
use std::io::BufRead;
use std::io::BufReader;
use std::io::IsTerminal;
use std::io::Read;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

/// The variable that holds the password.
pub const PASSWORD_VARIABLE: &str = "ICECORE_PASSWORD";
/// The variable that holds a new password, for `key add` and `key passwd`.
pub const NEW_PASSWORD_VARIABLE: &str = "ICECORE_NEW_PASSWORD";
/// The variable that holds the password of the repository that `copy` writes to.
pub const TO_PASSWORD_VARIABLE: &str = "ICECORE_TO_PASSWORD";
/// The variable that holds the password of who may come in at `serve-ftp`.
pub const SERVE_PASSWORD_VARIABLE: &str = "ICECORE_SERVE_PASSWORD";

/// An answer to a question of yes or no is not read further than this.
const ANSWER_BYTES_MAX: u64 = 100;

/// Where a password may come from; the first that is there counts, the flags before the
/// environment before the config file.
#[derive(Clone)]
pub struct PasswordPlaces {
    /// A file that holds it.
    pub file: Option<PathBuf>,
    /// A command that prints it: words split at blanks, quotes keep blanks, no shell.
    pub command: Option<String>,
    /// The variable that holds it.
    pub variable: &'static str,
    /// What the config file says.
    pub configured: Option<ConfiguredPassword>,
}

/// Where the config file says that a password is.
#[derive(Clone)]
pub enum ConfiguredPassword {
    /// A file that holds it.
    File(PathBuf),
    /// A command that prints it.
    Command(String),
}

/// A command may hold what it prints, so none is shown.
impl fmt::Debug for PasswordPlaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordPlaces")
            .field("file", &self.file)
            .field("variable", &self.variable)
            .field("configured", &self.configured)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ConfiguredPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfiguredPassword::File(file) => f.debug_tuple("File").field(file).finish(),
            ConfiguredPassword::Command(_) => f.write_str("Command(..)"),
        }
    }
}

impl PasswordPlaces {
    /// Says whether the variable is there and empty, as after a command that failed:
    /// `ICECORE_PASSWORD=$(pass show backups)`.
    pub fn is_emptied(&self) -> bool {
        places::is_empty(self.variable)
    }

    /// Returns the password, or None when no place has one.
    ///
    /// # Errors
    /// `Password` when a place that was named cannot give it.
    pub fn find(&self) -> Result<Option<Secret>> {
        if let Some(file) = &self.file {
            return read_file(file).map(Some);
        }
        if let Some(command) = &self.command {
            return run_command(command).map(Some);
        }
        if let Some(text) = places::variable(self.variable) {
            return Ok(Some(Secret::new(text.into_vec())));
        }
        match &self.configured {
            None => Ok(None),
            Some(place) => place.get().map(Some),
        }
    }
}

impl ConfiguredPassword {
    /// Returns the password.
    ///
    /// # Errors
    /// `Password` when the place cannot give it.
    pub fn get(&self) -> Result<Secret> {
        match self {
            ConfiguredPassword::File(file) => read_file(file),
            ConfiguredPassword::Command(command) => run_command(command),
        }
    }
}

fn failed(message: String) -> Error {
    Error::new(ErrorKind::Password, message)
}

fn read_file(file: &Path) -> Result<Secret> {
    let shown = display(file.as_os_str().as_bytes());
    match std::fs::read(file) {
        Ok(bytes) => Ok(without_newline(bytes)),
        Err(e) => Err(failed(format!("cannot read the password file {shown}")).caused_by(e)),
    }
}

fn run_command(command: &str) -> Result<Secret> {
    let words = split_words(command)?;
    let [program, arguments @ ..] = words.as_slice() else {
        return Err(Error::invalid("the password command is empty"));
    };
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| failed(format!("cannot run the password command {program}")).caused_by(e))?;
    if !output.status.success() {
        return Err(failed(format!("the password command {program} failed: {}", output.status)));
    }
    Ok(without_newline(output.stdout))
}

fn without_newline(mut bytes: Vec<u8>) -> Secret {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Secret::new(bytes)
}

/// Splits a command as a shell does, but for everything a shell would do besides: blanks
/// separate, `'...'` keeps all, `"..."` keeps all but `\"` and `\\`, a backslash keeps the next.
fn split_words(command: &str) -> Result<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), character) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => match characters.next() {
                Some(next) => {
                    let is_kept = quote.is_some() && !matches!(next, '"' | '\\');
                    word.get_or_insert_default().extend(is_kept.then_some('\\'));
                    word.get_or_insert_default().push(next);
                }
                None => return Err(unfinished()),
            },
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            (_, character) => word.get_or_insert_default().push(character),
        }
    }
    if quote.is_some() {
        return Err(unfinished());
    }
    words.extend(word);
    Ok(words)
}

fn unfinished() -> Error {
    Error::invalid("the password command ends within quotes")
}

/// Says whether a person can be asked.
pub fn can_ask() -> bool {
    std::io::stdin().is_terminal() || std::io::stderr().is_terminal()
}

/// Asks a person for a password.
///
/// # Errors
/// `Password` when nobody answers.
pub fn ask(question: &str) -> Result<Secret> {
    let answer = rpassword::prompt_password(format!("{question}: "))
        .map_err(|e| failed("cannot ask for the password".to_owned()).caused_by(e))?;
    Ok(Secret::new(answer.into_bytes()))
}

/// Asks a person at the terminal something that only `yes` agrees to. Nobody there is a no.
pub fn confirm(question: &str) -> bool {
    let terminal = std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty");
    let answer = terminal.and_then(|mut terminal| {
        write!(terminal, "{question} (yes/no) ")?;
        let mut answer = String::new();
        BufReader::new(terminal).take(ANSWER_BYTES_MAX).read_line(&mut answer)?;
        Ok(answer)
    });
    answer.is_ok_and(|answer| answer.trim() == "yes")
}

/// Asks a person for a new password, twice.
///
/// # Errors
/// `Password` when nobody answers, when the two differ, or when nothing was typed.
pub fn ask_new(question: &str) -> Result<Secret> {
    let first = ask(question)?;
    refuse_empty(&first)?;
    let second = ask("the same once more")?;
    if first.expose() == second.expose() {
        return Ok(first);
    }
    Err(failed("the two passwords differ".to_owned()))
}

/// Refuses what nobody chooses: a file that was cut, or a command that printed nothing.
///
/// # Errors
/// `Password` for an empty one.
pub fn refuse_empty(new: &Secret) -> Result<()> {
    if new.expose().is_empty() {
        return Err(is_empty());
    }
    Ok(())
}

/// Returns the error of an empty password.
pub(crate) fn is_empty() -> Error {
    failed("an empty password protects nothing".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_person_expects() {
        let words = |text: &str| split_words(text).expect(text).join("|");
        assert_eq!(words("pass show  backup"), "pass|show|backup");
        assert_eq!(words("a 'b c' \"d 'e\" f\\ g"), "a|b c|d 'e|f g");
        assert_eq!(words("a '' \"x\\\"y\\z\" 'q\\'"), "a||x\"y\\z|q\\");
        assert_eq!(words("a$(b);c"), "a$(b);c");
        for bad in ["a 'b", "a \"b", "a\\"] {
            assert!(split_words(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_newline_is_dropped_and_nothing_else() {
        let kept = |bytes: &[u8]| without_newline(bytes.to_vec()).expose().to_vec();
        assert_eq!(kept(b"a \n"), b"a ");
        assert_eq!(kept(b"a\r\n"), b"a");
        assert_eq!(kept(b"a\n\n"), b"a\n");
        assert_eq!(kept(b"\xff"), b"\xff");
        assert_eq!(kept(b""), b"");
    }

    #[test]
    fn a_command_gives_what_it_prints_and_a_failing_one_is_an_error() {
        let places = |command: &str| PasswordPlaces {
            file: None,
            command: Some(command.to_owned()),
            variable: "ICECORE_NO_SUCH_VARIABLE",
            configured: None,
        };
        let found = places("printf '%s\\n' 'a b'").find().expect("runs").expect("a password");
        assert_eq!(found.expose(), b"a b");
        for bad in ["false", "/no/such/program", ""] {
            assert!(places(bad).find().is_err(), "{bad}");
        }
    }
}
