//! Goes through what is left when the calls to a backend break off, get lost or come late.

use crate::crash::story::Promise;
use crate::crash::story::Story;
use crate::crash::tape::Tape;
use crate::crash::tape::Write;
use crate::crash::verdict::Wreck;
use crate::crash::verdict::bury_the_dead;
use crate::crash::workloads::Workload;
use icecore::backend::Backend;
use icecore::backend::memory::MemoryBackend;
use std::collections::HashSet;
use std::sync::Arc;

/// A workload as it went, call by call.
pub(super) struct Calls {
    workload: Workload,
    is_atomic: bool,
    start: usize,
    log: Vec<Write>,
    promises: Vec<(usize, Promise)>,
    version: usize,
    seen: HashSet<[u8; 32]>,
}

type Wrap = fn(Arc<dyn Backend>) -> Arc<dyn Backend>;

fn story_on(tape: &Tape, workload: &Workload, wrap: Wrap) -> Story {
    let mut story = Story::new(Arc::new(tape.clone()), workload.is_encrypted);
    // One thread, so that each run makes the same calls.
    story.threads = 1;
    for deed in workload.before {
        deed(&mut story).unwrap();
        bury_the_dead(&story);
    }
    story.wrap = wrap;
    story
}

impl Calls {
    /// Does a workload on a store with an atomic create, or without.
    pub(super) fn of(workload: &Workload, is_atomic: bool, wrap: Wrap) -> Self {
        let tape = Tape::new(MemoryBackend::with_atomic_create(is_atomic));
        let mut story = story_on(&tape, workload, wrap);
        let start = tape.log().len();
        for deed in workload.deeds {
            deed(&mut story).unwrap();
        }
        Calls {
            workload: *workload,
            is_atomic,
            start,
            log: tape.log(),
            promises: story.promises.clone(),
            version: story.version,
            seen: HashSet::new(),
        }
    }

    /// Returns how many different states were judged.
    pub(super) fn count(&self) -> usize {
        self.seen.len()
    }

    fn store_at(&self, position: usize) -> Arc<MemoryBackend> {
        let store = MemoryBackend::with_atomic_create(self.is_atomic);
        self.log[..position].iter().for_each(|write| write.apply(&store));
        Arc::new(store)
    }

    fn judge(
        &mut self,
        store: Arc<MemoryBackend>,
        promises: &[(usize, Promise)],
        late: Option<&Write>,
        name: String,
    ) -> Result<(), String> {
        let mut hasher = blake3::Hasher::new();
        for (key, bytes) in store.objects() {
            hasher.update(key.as_str().as_bytes());
            hasher.update(blake3::hash(&bytes).as_bytes());
        }
        hasher.update(format!("{} {}", promises.len(), late.is_some()).as_bytes());
        if !self.seen.insert(*hasher.finalize().as_bytes()) {
            return Ok(());
        }
        let medium = Arc::new(Tape::on(Arc::clone(&store)));
        let late = late.cloned().map(|write| {
            let come = move || write.apply(&store);
            Box::new(come) as Box<dyn Fn() + Send + Sync>
        });
        let wreck = Wreck {
            medium,
            is_encrypted: self.workload.is_encrypted,
            version: self.version,
            promises: promises.iter().map(|(_, promise)| promise.clone()).collect(),
            cache: None,
            late,
            is_repaired: true,
        };
        let class = if self.is_atomic { "A" } else { "B" };
        wreck
            .judge()
            .map_err(|what| format!("{what}, in {} {name}, class {class}", self.workload.name))
    }

    fn promised_at(&self, position: usize) -> Vec<(usize, Promise)> {
        self.promises.iter().filter(|(at, _)| *at <= position).cloned().collect()
    }

    /// Breaks off after each call; and lets the last one come when all is over and others have
    /// gone on, which is what a network may do with it.
    pub(super) fn break_off(&mut self) -> Result<(), String> {
        for position in self.start..=self.log.len() {
            let (store, promises) = (self.store_at(position), self.promised_at(position));
            let name = format!("after {position} calls");
            self.judge(store, &promises, None, name)?;
            let Some(late) = self.log.get(position).cloned() else { continue };
            if self.is_left_out(&late) {
                continue;
            }
            let name = format!("after {position} calls, with the next one late: {late:?}");
            let name = name.chars().take(200).collect();
            self.judge(self.store_at(position), &promises, Some(&late), name)?;
        }
        Ok(())
    }

    /// Without an atomic create a config that comes after others have gone on replaces the one of
    /// a second `init`.
    fn is_left_out(&self, late: &Write) -> bool {
        !self.is_atomic && matches!(late, Write::Put(key, _) if key.as_str() == "config")
    }

    /// Does the workload again for each call, whose reply is lost.
    pub(super) fn lose_replies(&mut self) -> Result<(), String> {
        for call in self.start..self.log.len() {
            let tape = Tape::new(MemoryBackend::with_atomic_create(self.is_atomic));
            let mut story = story_on(&tape, &self.workload, |backend| backend);
            tape.lose_reply_of(call);
            // A deed that fails is the last one.
            let _ = self.workload.deeds.iter().try_for_each(|deed| deed(&mut story));
            let name = format!("with the reply to call {call} lost");
            self.judge(Arc::clone(&tape.store), &story.promises, None, name)?;
        }
        Ok(())
    }
}
