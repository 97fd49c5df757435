//! Which calls depend on which: names that are the same in every run, and a number for the state
//! that a run is in, so that two orders of calls that cannot be told apart count as one.
//!
//! Ids are random, so a key is told by who made it and as which of its kind. A call depends on
//! the calls of its actor before it, and on the last writes of what it reads; its number is made
//! of those. The sum of the numbers of all calls is the number of the state: it is equal
//! whenever only calls that do not touch each other have changed places.

use crate::concurrency::time::TIME;
use icecore::backend::memory::MemoryBackend;
use icecore::backend::wrap::Operation;
use std::collections::HashMap;
use std::collections::HashSet;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Arc;

/// One call as an actor is about to make it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) actor: usize,
    pub(super) operation: Operation,
    pub(super) key: String,
    /// The key without anything random.
    pub(super) name: String,
}

/// What is read and written at one place: an object, or the list of a folder.
#[derive(Clone, Copy, Default)]
struct Touched {
    write: u64,
    reads: u64,
}

/// What has happened so far.
#[derive(Clone)]
pub(super) struct Order {
    actors: Vec<char>,
    /// Names of ids, the hex digits of which stand in keys.
    ids: HashMap<String, String>,
    counts: HashMap<(char, String), u32>,
    folders: HashSet<String>,
    folder_names: HashMap<String, String>,
    touched: HashMap<String, Touched>,
    /// The last call of each actor.
    last: Vec<u64>,
    state: u64,
    /// The call that put each object.
    objects: HashMap<String, u64>,
    store: u64,
    /// Whether days pass: then every call depends on how many have.
    has_days: bool,
}

fn number(parts: impl Hash) -> u64 {
    // Keys of this hasher are fixed, so numbers are the same in every run.
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

fn folder_of(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(folder, _)| folder)
}

impl Order {
    /// Starts with what is in a backend; `actors` are the letters that stand for them.
    pub(super) fn new(backend: &Arc<MemoryBackend>, actors: Vec<char>, has_days: bool) -> Self {
        let last = vec![0; actors.len()];
        let mut order = Order {
            actors,
            ids: HashMap::new(),
            counts: HashMap::new(),
            folders: HashSet::new(),
            folder_names: HashMap::new(),
            touched: HashMap::new(),
            last,
            state: 0,
            objects: HashMap::new(),
            store: 0,
            has_days,
        };
        let mut keys = Vec::new();
        let top = icecore::backend::key::FolderKey::top();
        icecore::backend::list_all(&**backend, &top, &mut |object| {
            keys.push((object.modified, object.key.to_string()));
            Ok(())
        })
        .unwrap();
        // In the order in which they were put.
        keys.sort();
        for (_, key) in keys {
            let name = order.name(None, &key);
            order.made(&key, number(&name));
        }
        order
    }

    /// Returns a number for what is in the store, and who put it on what grounds.
    pub(super) fn store(&self) -> u64 {
        self.store
    }

    /// Returns a call with its name.
    pub(super) fn call(&mut self, actor: usize, operation: Operation, key: &str) -> Call {
        let name = match operation {
            Operation::List => self.folder_name(key),
            _ => self.name(Some(actor), key),
        };
        Call { actor, operation, key: key.to_owned(), name }
    }

    fn name(&mut self, actor: Option<usize>, key: &str) -> String {
        let parts: Vec<&str> = key.split('/').collect();
        let top = parts[0];
        let rest = if parts.len() > 2 { &parts[2..] } else { &parts[1..] };
        let mut name = top.to_owned();
        for part in rest {
            name.push('/');
            name.push_str(&self.part(actor, top, part));
        }
        if parts.len() > 2 {
            let split = format!("{top}/{}", parts[1]);
            self.folder_names.entry(split).or_insert_with(|| format!("{name}~"));
        }
        name
    }

    /// Replaces every id in a part of a key.
    fn part(&mut self, actor: Option<usize>, top: &str, part: &str) -> String {
        let mut name = String::new();
        for piece in part.split_inclusive(['-', '.']) {
            let word = piece.trim_end_matches(['-', '.']);
            // A mark of class B: `r` and who put it.
            let (head, id) = match word.strip_prefix('r') {
                Some(id) if id.len() >= 32 => ("r", id),
                _ => ("", word),
            };
            if id.len() >= 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                name.push_str(head);
                name.push_str(&self.id(actor, top, id));
                name.push_str(&piece[word.len()..]);
            } else {
                name.push_str(piece);
            }
        }
        name
    }

    fn id(&mut self, actor: Option<usize>, top: &str, id: &str) -> String {
        if let Some(name) = self.ids.get(id) {
            return name.clone();
        }
        let who = actor.map_or('0', |actor| self.actors[actor]);
        let count = self.counts.entry((who, top.to_owned())).or_default();
        let name = format!("{who}{count}");
        *count += 1;
        self.ids.insert(id.to_owned(), name.clone());
        name
    }

    fn folder_name(&mut self, folder: &str) -> String {
        let parts: Vec<&str> = folder.split('/').collect();
        match parts.len() {
            0 | 1 => folder.to_owned(),
            2 => self.folder_names.get(folder).cloned().unwrap_or_else(|| folder.to_owned()),
            _ => self.name(None, folder),
        }
    }

    fn folders_of(&self, key: &str) -> Vec<String> {
        let mut folders = Vec::new();
        let mut folder = folder_of(key);
        while !folder.is_empty() && !self.folders.contains(folder) {
            folders.push(folder.to_owned());
            folder = folder_of(folder);
        }
        folders
    }

    /// Returns what a call reads and what it writes.
    fn footprint(&mut self, call: &Call) -> (Vec<String>, Vec<String>) {
        if call.name == TIME {
            return (Vec::new(), vec![TIME.to_owned()]);
        }
        let mut days = Vec::new();
        if self.has_days {
            days.push(TIME.to_owned());
        }
        match call.operation {
            Operation::Get | Operation::GetRange | Operation::Stat => {
                days.push(call.name.clone());
                (days, Vec::new())
            }
            Operation::List => {
                days.push(format!("{}/", call.name));
                (days, Vec::new())
            }
            Operation::Put | Operation::PutNew | Operation::Delete => {
                let mut writes = vec![call.name.clone()];
                writes.push(format!("{}/", self.folder_name(folder_of(&call.key))));
                if call.operation != Operation::Delete {
                    for new in self.folders_of(&call.key) {
                        writes.push(format!("{}/", self.folder_name(folder_of(&new))));
                    }
                }
                (days, writes)
            }
        }
    }

    /// Returns the number that a call would get if it were the next.
    fn weigh(&mut self, call: &Call) -> (u64, Vec<String>, Vec<String>) {
        let (reads, writes) = self.footprint(call);
        let touched = |place: &String| self.touched.get(place).copied().unwrap_or_default();
        let read: Vec<u64> = reads.iter().map(|place| touched(place).write).collect();
        let wrote: Vec<(u64, u64)> =
            writes.iter().map(|place| (touched(place).write, touched(place).reads)).collect();
        let before = self.last[call.actor];
        let weight = number((call.actor, call.operation, &call.name, before, read, wrote));
        (weight, reads, writes)
    }

    /// Returns the number of the state in which a call would leave.
    pub(super) fn state_after(&mut self, call: &Call) -> u64 {
        let (weight, ..) = self.weigh(call);
        self.state.wrapping_add(weight)
    }

    /// Takes a call as the next.
    pub(super) fn take(&mut self, call: &Call) -> u64 {
        let (weight, reads, writes) = self.weigh(call);
        for place in reads {
            let touched = self.touched.entry(place).or_default();
            touched.reads = touched.reads.wrapping_add(weight);
        }
        for place in writes {
            self.touched.insert(place, Touched { write: weight, reads: 0 });
        }
        self.last[call.actor] = weight;
        self.state = self.state.wrapping_add(weight);
        weight
    }

    /// Takes note of an object that was put by the call of this number.
    pub(super) fn made(&mut self, key: &str, by: u64) {
        for folder in self.folders_of(key) {
            self.folders.insert(folder);
        }
        // The same bytes once more change nothing.
        if !self.objects.contains_key(key) {
            let by = number((by, "object"));
            self.objects.insert(key.to_owned(), by);
            self.store = self.store.wrapping_add(by);
        }
    }

    /// Takes note of an object that was deleted.
    pub(super) fn removed(&mut self, key: &str) {
        if let Some(by) = self.objects.remove(key) {
            self.store = self.store.wrapping_sub(by);
        }
    }

    /// Returns what a listing is sorted by, so that it is the same in every run.
    pub(super) fn rank(&mut self, key: &str, is_folder: bool) -> String {
        if is_folder { self.folder_name(key) } else { self.name(None, key) }
    }
}
