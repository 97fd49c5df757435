//! Reads that a store refuses as a failing disk does, and which there were.

use icecore::backend::Backend;
use icecore::backend::wrap::Around;
use icecore::backend::wrap::Call;
use icecore::backend::wrap::Operation;
use icecore::backend::wrap::Outcome;
use icecore::backend::wrap::Wrapper;
use icecore::base::error::Error;
use icecore::base::error::ErrorKind;
use icecore::base::error::Origin;
use icecore::base::error::Result;
use std::sync::Arc;
use std::sync::Mutex;

/// Which read fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The one with this number, from 0.
    Once(usize),
    /// That one, and from then on each of the same object or folder.
    ForGood(usize),
}

#[derive(Default)]
struct State {
    refusal: Option<Refusal>,
    /// Only calls for keys that begin so count.
    of: String,
    reads: Vec<(Operation, String)>,
    refused: Option<String>,
}

/// Shared by the stores that it was put around.
#[derive(Clone, Default)]
pub(crate) struct Refusing(Arc<Mutex<State>>);

impl Refusing {
    /// Puts it around a store; it refuses nothing yet.
    pub(crate) fn around(&self, inner: Arc<dyn Backend>) -> Arc<dyn Backend> {
        Arc::new(Wrapper::around(inner, self.clone()))
    }

    /// Counts the reads of keys that begin so anew, and refuses what is said.
    pub(crate) fn begin(&self, of: &str, refusal: Option<Refusal>) {
        *self.0.lock().unwrap() = State { refusal, of: of.to_owned(), ..State::default() };
    }

    /// Returns the reads since, in order, and what was refused.
    pub(crate) fn end(&self) -> (Vec<(Operation, String)>, Option<String>) {
        let state = std::mem::take(&mut *self.0.lock().unwrap());
        (state.reads, state.refused)
    }
}

impl State {
    fn refuses(&mut self, call: &Call<'_>) -> bool {
        if call.operation.is_write() || !call.key.starts_with(&self.of) {
            return false;
        }
        let number = self.reads.len();
        self.reads.push((call.operation, call.key.to_owned()));
        let is_hit = match self.refusal {
            None => false,
            Some(Refusal::Once(which)) => which == number,
            Some(Refusal::ForGood(which)) => {
                which == number || self.refused.as_deref() == Some(call.key)
            }
        };
        if is_hit {
            self.refused = Some(call.key.to_owned());
        }
        is_hit
    }
}

impl Around for Refusing {
    fn run<T: Outcome>(&self, call: Call<'_>, work: &dyn Fn() -> Result<T>) -> Result<T> {
        if !self.0.lock().unwrap().refuses(&call) {
            return work();
        }
        let message = format!("cannot read {}: input/output error", call.key);
        Err(Error::new(ErrorKind::Io, message).at(Origin::Repository))
    }
}
