//! Draws progress on stderr.
//!
//! On a terminal one line that is drawn at most ten times a second; elsewhere a line every ten
//! seconds; with `--progress-json` a JSON line a second. The engine calls from many threads, which
//! only count; a thread of its own draws, whatever those wait for.

use crate::base::path::EntryPath;
use crate::base::progress::Counter;
use crate::base::progress::Phase;
use crate::base::progress::Progress;
use crate::base::progress::Totals;
use crate::base::progress::Warning;
use crate::base::sys;
use crate::cli::args::GlobalArgs;
use crate::cli::fields::PathField;
use crate::cli::output;
use crate::cli::text;
use serde::Serialize;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use std::time::Instant;

/// Columns of a terminal that does not tell its width.
const COLUMNS_DEFAULT: usize = 80;
/// A remaining time is a guess; before so many seconds it is a wild one.
const REMAINING_AFTER_SECONDS: f64 = 2.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Bar,
    Lines,
    Json,
    Nothing,
}

impl Style {
    fn choose(global: &GlobalArgs) -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if global.progress_json {
            Style::Json
        } else if global.quiet || global.no_progress {
            Style::Nothing
        } else if std::io::stderr().is_terminal() && !is_dumb {
            Style::Bar
        } else {
            Style::Lines
        }
    }

    /// Milliseconds from one drawing to the next.
    fn pause_ms(self) -> u64 {
        match self {
            Style::Bar => 100,
            Style::Json => 1_000,
            Style::Lines => 10_000,
            Style::Nothing => u64::MAX,
        }
    }
}

/// A phase that is under way.
#[derive(Clone, Copy, Debug)]
struct Running {
    phase: Phase,
    totals: Totals,
    started: Instant,
}

/// Shows what an operation tells.
#[derive(Debug)]
pub(crate) struct Shown {
    style: Style,
    is_quiet: bool,
    is_verbose: bool,
    created: Instant,
    next_ms: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
    /// Notes on single entries that nobody asked to see.
    kept_back: AtomicU64,
    /// What was begun last.
    path: Mutex<Option<EntryPath>>,
    /// Held while drawing, so that lines do not mix.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: Option<Running>,
    is_drawn: bool,
}

#[derive(Serialize)]
struct Line {
    phase: &'static str,
    files_done: u64,
    files_total: Option<u64>,
    bytes_done: u64,
    bytes_total: Option<u64>,
    #[serde(flatten)]
    path: PathField,
    seconds: f64,
}

#[derive(Serialize)]
struct WarningLine<'a> {
    warning: &'a str,
    #[serde(flatten)]
    path: PathField,
    is_error: bool,
}

impl Shown {
    /// Chooses the way to show by the flags and by what stderr is.
    pub(crate) fn new(global: &GlobalArgs) -> Self {
        Shown {
            style: Style::choose(global),
            is_quiet: global.quiet,
            is_verbose: global.verbose,
            created: Instant::now(),
            next_ms: AtomicU64::new(0),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            kept_back: AtomicU64::new(0),
            path: Mutex::default(),
            state: Mutex::default(),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Runs work, and draws beside it each time that a drawing is due.
    pub(crate) fn beside<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.style == Style::Nothing {
            return work();
        }
        let (working, ended) = mpsc::channel();
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("progress".to_owned());
            // On a machine out of threads only the end is drawn.
            let _ = thread.spawn_scoped(scope, move || self.tick(&ended));
            let done = work();
            drop(working);
            done
        })
    }

    fn tick(&self, ended: &mpsc::Receiver<()>) {
        loop {
            let now = self.elapsed_ms();
            if now >= self.next_ms.load(Ordering::Relaxed) {
                let next = now.saturating_add(self.style.pause_ms());
                self.next_ms.store(next, Ordering::Relaxed);
                self.draw(&mut self.state());
            }
            let pause = self.next_ms.load(Ordering::Relaxed).saturating_sub(now);
            let pause = Duration::from_millis(pause);
            if ended.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    fn path(&self) -> Option<EntryPath> {
        self.path.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, state: &mut State) {
        let Some(running) = state.running else { return };
        let (files, bytes) = self.done();
        let totals = running.totals.unless_passed(files, bytes);
        match self.style {
            Style::Nothing => {}
            Style::Lines => output::talk(&self.sentence(&running)),
            Style::Json => self.write_json(&Line {
                phase: running.phase.as_str(),
                files_done: files,
                files_total: totals.files,
                bytes_done: bytes,
                bytes_total: totals.bytes,
                path: PathField::maybe(self.path().as_ref()),
                seconds: running.started.elapsed().as_secs_f64(),
            }),
            Style::Bar => {
                let path = self.path().as_ref().map(EntryPath::to_string).unwrap_or_default();
                let line = format!("{}  {path}", self.sentence(&running));
                // One column stays free, so that no terminal wraps.
                output::draw(&format!("\r\x1b[2K{}", cut(&line, columns().saturating_sub(1))));
                state.is_drawn = true;
            }
        }
    }

    fn done(&self) -> (u64, u64) {
        (self.files.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    fn sentence(&self, running: &Running) -> String {
        let (files, bytes) = self.done();
        let totals = running.totals.unless_passed(files, bytes);
        let seconds = running.started.elapsed().as_secs_f64();
        let mut parts = vec![match totals.files {
            Some(total) => format!("{} of {} files", text::count(files), text::count(total)),
            None => text::plural(files, "file", "files"),
        }];
        parts.push(match totals.bytes {
            Some(total) => {
                let percent = percent(bytes, total);
                format!("{} of {} ({percent} %)", text::bytes(bytes), text::bytes(total))
            }
            None => text::bytes(bytes),
        });
        if seconds > 0.0 {
            parts.push(format!("{}/s", text::bytes((bytes as f64 / seconds) as u64)));
        }
        if let Some(left) = remaining(bytes, totals.bytes, seconds) {
            parts.push(format!("{} left", text::seconds(left.round())));
        }
        format!("{}: {}", running.phase.as_str(), parts.join(", "))
    }

    fn write_json<T: Serialize>(&self, line: &T) {
        if let Ok(text) = serde_json::to_string(line) {
            output::draw(&format!("{text}\n"));
        }
    }

    fn wipe(state: &mut State) {
        if std::mem::take(&mut state.is_drawn) {
            output::draw("\r\x1b[2K");
        }
    }

    /// Takes the drawn line away, however the operation ended, and says whether there was more to
    /// tell: what was left out must not go without a word.
    pub(crate) fn clear(&self) {
        Shown::wipe(&mut self.state());
        let notes = self.kept_back.load(Ordering::Relaxed);
        if notes > 0 && self.style != Style::Json {
            let notes = text::plural(notes, "entry has a note", "entries have notes");
            output::talk(&format!("{notes}, as for what is left out: -v shows them"));
        }
    }
}

fn percent(done: u64, total: u64) -> u64 {
    if total == 0 { 100 } else { (u128::from(done) * 100 / u128::from(total)).min(100) as u64 }
}

/// Guesses how many seconds are left, once there is something to go by.
fn remaining(done: u64, total: Option<u64>, seconds: f64) -> Option<f64> {
    let left = total?.checked_sub(done)?;
    let is_known = done > 0 && seconds >= REMAINING_AFTER_SECONDS;
    is_known.then(|| left as f64 * seconds / done as f64)
}

fn columns() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let there = sys::terminal_columns();
    there.or(said.filter(|&columns| columns > 0)).unwrap_or(COLUMNS_DEFAULT)
}

/// Cuts a line so that it fits, the end left out; a character that may be two columns wide counts
/// as two.
fn cut(line: &str, columns: usize) -> String {
    let mut used = 0;
    let wide = |character: char| if u32::from(character) < 0x1100 { 1 } else { 2 };
    line.chars()
        .take_while(|&character| {
            used += wide(character);
            used <= columns
        })
        .collect()
}

impl Progress for Shown {
    fn start(&self, phase: Phase, totals: Totals) {
        self.files.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        // The first line comes after one pause, so that what is done at once draws nothing.
        let next = self.elapsed_ms().saturating_add(self.style.pause_ms());
        self.next_ms.store(next, Ordering::Relaxed);
        *self.path.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.state().running = Some(Running { phase, totals, started: Instant::now() });
    }

    fn count(&self, counter: Counter, amount: u64) {
        match counter {
            Counter::Files => self.files.fetch_add(amount, Ordering::Relaxed),
            Counter::Bytes => self.bytes.fetch_add(amount, Ordering::Relaxed),
            Counter::StoredBytes => return,
        };
    }

    fn working_on(&self, path: &EntryPath) {
        // Of those that come at the same moment one is as good as another; the root says nothing.
        if self.style != Style::Nothing
            && !path.is_root()
            && let Ok(mut shown) = self.path.try_lock()
        {
            *shown = Some(path.clone());
        }
    }

    fn warn(&self, warning: &Warning) {
        let is_shown = if warning.is_error || warning.path.is_none() {
            warning.is_error || !self.is_quiet
        } else {
            self.is_verbose
        };
        if !is_shown {
            if !self.is_quiet {
                self.kept_back.fetch_add(1, Ordering::Relaxed);
            }
            return;
        }
        let mut state = self.state();
        Shown::wipe(&mut state);
        let path = warning.path.as_ref();
        match (self.style, path) {
            (Style::Json, _) => self.write_json(&WarningLine {
                warning: &warning.message,
                path: PathField::maybe(path),
                is_error: warning.is_error,
            }),
            (_, Some(path)) if !path.is_root() => {
                output::talk(&format!("{path}: {}", warning.message));
            }
            _ => output::talk(&warning.message),
        }
    }

    fn finish(&self) {
        let mut state = self.state();
        if self.style == Style::Json {
            self.draw(&mut state);
        }
        Shown::wipe(&mut state);
        state.running = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_to_the_width() {
        assert_eq!(cut("abcdef", 4), "abcd");
        assert_eq!(cut("abc", 4), "abc");
        assert_eq!(cut("a\u{4e2d}\u{4e2d}b", 4), "a\u{4e2d}");
        assert_eq!(cut("abc", 0), "");
    }

    #[test]
    fn the_rest_is_guessed_from_what_is_done() {
        assert_eq!(remaining(50, Some(100), 10.0), Some(10.0));
        assert_eq!(remaining(0, Some(100), 10.0), None);
        assert_eq!(remaining(50, Some(100), 0.5), None);
        assert_eq!(remaining(50, None, 10.0), None);
        assert_eq!(remaining(150, Some(100), 10.0), None, "it grew meanwhile");
        assert_eq!(percent(1, 3), 33);
        assert_eq!(percent(0, 0), 100);
    }
}
