//! Human or JSON; the only place that writes to stdout.
//!
//! stdout is data: rows, documents, file content. stderr is talk: errors, warnings, notes. A
//! reader that goes away (`icecore ls -R | head`) ends a command that only looks with success. One
//! that does something does it to its end all the same, and tells by its exit code how it went.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::path::display;
use crate::cli::fields::ErrorFields;
use crate::config::connect::without_passwords;
use serde::Serialize;
use std::io::BufWriter;
use std::io::ErrorKind as Io;
use std::io::IsTerminal;
use std::io::Stdout;
use std::io::Write;

/// Where a command writes what it found.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: BufWriter<Stdout>,
    is_json: bool,
    is_quiet: bool,
    is_broken: bool,
    goes_on: bool,
    /// What was first refused of the output of a command that goes on.
    failure: Option<Error>,
    /// The list that the one document of the command begins with, while it is being told.
    list: Option<List>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Empty,
    HasRows,
}

#[derive(Serialize)]
struct ErrorDocument {
    error: ErrorFields,
}

impl Output {
    /// Makes the one output of a run.
    pub(crate) fn new(is_json: bool, is_quiet: bool) -> Self {
        let stdout = BufWriter::new(std::io::stdout());
        let (is_broken, goes_on, failure, list) = (false, false, None, None);
        Output { stdout, is_json, is_quiet, is_broken, goes_on, failure, list }
    }

    /// Lets no failure to write stop the command: it is told at the end of the run.
    pub(crate) fn go_on(&mut self) {
        self.goes_on = true;
    }

    /// Says whether the command does something, whoever reads what it tells.
    pub(crate) fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// Says whether JSON was asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// Says whether nobody reads the output any more.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Says whether the command ends because nobody reads its output any more.
    pub(crate) fn ends_here(&self) -> bool {
        self.is_broken && !self.goes_on
    }

    /// Says whether standard output is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.stdout.get_ref().is_terminal()
    }

    /// Writes a line of data.
    pub(crate) fn line(&mut self, text: &str) -> Result<()> {
        self.raw(text)?;
        self.raw("\n")
    }

    /// Writes the sentence that sums a command up, unless it is to be quiet. That nobody reads
    /// it does not stop what follows.
    pub(crate) fn sentence(&mut self, text: &str) -> Result<()> {
        if self.is_quiet {
            return Ok(());
        }
        let written = self.line(text).and_then(|()| self.finish());
        self.unless_broken(written)
    }

    /// Keeps what was refused for the end, where the command goes on.
    fn later(&mut self, written: Result<()>) -> Result<()> {
        if !self.goes_on {
            return written;
        }
        if let Err(e) = written
            && !self.is_broken
        {
            self.failure.get_or_insert(e);
        }
        Ok(())
    }

    fn unless_broken(&self, written: Result<()>) -> Result<()> {
        if self.is_broken { Ok(()) } else { written }
    }

    /// Writes text as it is.
    pub(crate) fn raw(&mut self, text: &str) -> Result<()> {
        let written = self.write_all(text.as_bytes()).map_err(cannot_write);
        self.later(written)
    }

    /// Writes the one JSON document of a command. That nobody reads it changes nothing.
    pub(crate) fn document<T: Serialize>(&mut self, document: &T) -> Result<()> {
        let written = self.row(document).and_then(|()| self.finish());
        self.unless_broken(written)
    }

    /// Begins the one JSON document of a command with a list that is told while it comes, so that
    /// nobody has to hold it; does nothing where it is begun already, or nobody asked for JSON.
    pub(crate) fn begin_list(&mut self, name: &str) -> Result<()> {
        if !self.is_json || self.list.is_some() {
            return Ok(());
        }
        self.list = Some(List::Empty);
        self.raw(&format!("{{\"{name}\":["))
    }

    /// Writes one row of the list, and begins it before the first.
    pub(crate) fn list_row<T: Serialize>(&mut self, name: &str, row: &T) -> Result<()> {
        self.begin_list(name)?;
        let comma = if self.list == Some(List::HasRows) { "," } else { "" };
        self.list = Some(List::HasRows);
        self.raw(&format!("{comma}{}", encoded(row)?))
    }

    /// Writes one of many JSON documents, each on a line of its own; or the rest of the one that
    /// begins with a list.
    pub(crate) fn row<T: Serialize>(&mut self, row: &T) -> Result<()> {
        let text = encoded(row)?;
        match self.list.take() {
            None => self.line(&text),
            Some(_) => self.line(&format!("],{}", text.strip_prefix('{').unwrap_or(&text))),
        }
    }

    /// Hands over all that was written.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let flushed = self.flush().map_err(cannot_write);
        self.later(flushed)
    }

    /// Hands over what is left at the end of the run.
    ///
    /// # Errors
    /// What of the output was refused at any time, unless nobody reads it.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.finish()?;
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Tells a person something beside the data, unless it is to be quiet.
    pub(crate) fn note(&self, text: &str) {
        if !self.is_quiet {
            talk(text);
        }
    }

    /// Tells of the error that ended the run.
    pub(crate) fn error(&mut self, error: &Error) {
        if self.is_json {
            // The exit code tells as well, should this not be readable.
            let document = ErrorDocument { error: ErrorFields::new(error) };
            self.goes_on = false;
            if self.document(&document).and_then(|()| self.finish()).is_ok() {
                return;
            }
        } else {
            let _ = self.finish();
        }
        tell(error);
    }

    /// Tells that the arguments make no sense, in the parser's words.
    pub(crate) fn usage_error(&mut self, plain: &str, coloured: &str) {
        if !self.is_json {
            let has_colours = std::io::stderr().is_terminal();
            return draw(if has_colours { coloured } else { plain });
        }
        let text = plain.strip_prefix("error: ").unwrap_or(plain);
        let message = text.split("\n\n").next().unwrap_or_default();
        let message: Vec<&str> = message.split_whitespace().collect();
        let hint = Some("`icecore COMMAND --help` explains a command".to_owned());
        let error = ErrorFields { kind: "usage", message: message.join(" "), hint };
        let _ = self.document(&ErrorDocument { error }).and_then(|()| self.finish());
    }
}

fn encoded<T: Serialize>(document: &T) -> Result<String> {
    serde_json::to_string(document)
        .map_err(|e| Error::bug("a document does not encode").caused_by(e))
}

fn cannot_write(cause: std::io::Error) -> Error {
    Error::io("cannot write to standard output", cause)
}

/// Writes a line for people to stderr.
pub(crate) fn talk(text: &str) {
    draw(&format!("icecore: {}\n", display(without_passwords(text).as_bytes())));
}

/// Writes to stderr as it is. That nobody can read it is no reason to stop.
pub(crate) fn draw(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// Tells people of an error, and what to do about it.
pub(crate) fn tell(error: &Error) {
    talk(&error.full_message());
    if let Some(hint) = error.hint_text() {
        draw(&format!("hint: {}\n", display(without_passwords(hint).as_bytes())));
    }
}

/// Raw data, such as the content of a file.
impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.stdout.write(bytes);
        self.is_broken |= written.as_ref().is_err_and(|e| e.kind() == Io::BrokenPipe);
        written
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let flushed = self.stdout.flush();
        self.is_broken |= flushed.as_ref().is_err_and(|e| e.kind() == Io::BrokenPipe);
        flushed
    }
}
