//! The repository's files as the rules look at them: text, code without comments, functions.

use std::path::Path;

/// A file of the tree; `code` is its text without comments and strings, for Rust files.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) code: Vec<String>,
}

impl File {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") { code_of(text) } else { String::new() };
        let code = code.lines().map(str::to_owned).collect();
        File { path: path.to_owned(), text: text.to_owned(), code }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(crate) fn in_src(&self) -> Option<&str> {
        self.path.strip_prefix("src/").filter(|_| self.is_rust())
    }

    /// Returns lines of code with their numbers from 1.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.iter().enumerate().map(|(index, line)| (index + 1, line.as_str()))
    }

    /// Returns the number of the line at which unit tests begin; they stand last.
    pub(crate) fn tests_from(&self) -> usize {
        let first = self.code.iter().position(|line| line.starts_with("#[cfg(test)]"));
        first.map_or(usize::MAX, |index| index + 1)
    }

    pub(crate) fn fault(&self, line: usize, text: &str) -> String {
        format!("{}:{line}: {text}", self.path)
    }
}

/// Blanks out comments and the insides of strings and characters; lines stay.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = blank_end(&bytes[at..]).map_or(at, |length| bytes.len().min(at + length));
        if end == at {
            code.push(bytes[at]);
            at += 1;
        }
        while at < end {
            code.push(if bytes[at] == b'\n' { b'\n' } else { b' ' });
            at += 1;
        }
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// Returns how long the comment, string or character at the start is, if there is one.
fn blank_end(rest: &[u8]) -> Option<usize> {
    let find = |needle: &[u8], from: usize| {
        let found = rest.get(from..)?.windows(needle.len()).position(|window| window == needle);
        Some(found.map_or(rest.len(), |place| from + place + needle.len()))
    };
    match rest {
        [b'/', b'/', ..] => Some(rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len())),
        [b'/', b'*', ..] => find(b"*/", 2),
        [b'"', ..] => Some(string_length(rest)),
        [b'\'', b'\\', ..] => find(b"'", 3),
        [b'\'', _, b'\'', ..] => Some(3),
        [b'r', b'"' | b'#', ..] => {
            let hashes = rest[1..].iter().take_while(|&&byte| byte == b'#').count();
            let is_string = rest.get(1 + hashes) == Some(&b'"');
            let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
            if is_string { find(&close, 2 + hashes) } else { None }
        }
        _ => None,
    }
}

fn string_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// Returns all text files of the repository, but for what is built.
pub(crate) fn tree(root: &Path) -> Vec<File> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("an entry of the repository").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a plain name");
            if path.is_dir() && !matches!(name, "target" | ".git") {
                folders.push(path);
            } else if path.is_file() && name != ".git" {
                let relative = path.strip_prefix(root).expect("it is below").to_string_lossy();
                if let Ok(text) = std::fs::read_to_string(&path) {
                    files.push(File::new(&relative, &text));
                }
            }
        }
    }
    files
}

/// Returns the first line of each function with a body, and how many lines it has.
pub(crate) fn function_lengths(code: &[String]) -> Vec<(usize, usize)> {
    let starts = code.iter().enumerate().filter(|(_, line)| starts_function(line));
    starts.filter_map(|(at, _)| Some((at + 1, body_lines(&code[at..])?))).collect()
}

fn starts_function(line: &str) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| {
        word.starts_with("pub") || matches!(*word, "const" | "async" | "unsafe" | "extern")
    });
    words.next() == Some("fn")
}

/// Counts lines up to the brace that closes the first one; none for a signature alone.
fn body_lines(code: &[String]) -> Option<usize> {
    let (mut braces, mut brackets) = (0, 0);
    for (index, line) in code.iter().enumerate() {
        for character in line.chars() {
            match character {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets -= 1,
                '{' => braces += 1,
                '}' if braces == 1 => return Some(index + 1),
                '}' => braces -= 1,
                ';' if braces == 0 && brackets == 0 => return None,
                _ => {}
            }
        }
    }
    None
}

/// Says whether the text before `at` ends within a word that goes on there.
pub(crate) fn ends_word(line: &str, at: usize) -> bool {
    let starts_word = line[at..].starts_with(is_word);
    starts_word && line[..at].ends_with(is_word)
}

pub(crate) fn leading_word(text: &str) -> &str {
    &text[..text.find(|character| !is_word(character)).unwrap_or(text.len())]
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[test]
fn comments_and_strings_are_no_code() {
    let text =
        "a(\"{ \\\" }\", r#\"\" {\"#, '{', '\\'', b'\\\\') // {\n/* {\n */ fn f<'a>(x: &'a u8) {}";
    let code = code_of(text);

    assert_eq!(code.matches('{').count(), 1, "{code}");
    assert_eq!(code.lines().count(), 3);
    assert!(code.ends_with("fn f<'a>(x: &'a u8) {}"), "{code}");
}

#[test]
fn signatures_alone_have_no_length() {
    let text = "trait T {\n    fn a(&self) -> [u8; 2];\n    pub(crate) async fn b() {\n    }\n}\n";
    assert_eq!(function_lengths(&File::new("a.rs", text).code), [(3, 2)]);
}
