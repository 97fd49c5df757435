//! A home whose repository is put back to what it was before each run, and damaged.

use crate::cli::Home;
use crate::cli::Ran;
use crate::cli::damaged::commands::Row;
use crate::damage;
use crate::damage::operations::OPERATIONS;
use crate::damage::state::Label;
use crate::damage::state::State;
use crate::damage::ways::Case;
use crate::damage::ways::cases;
use crate::support::folder::Folder;
use crate::support::folder::files_below;
use crate::support::random::Random;
use crate::support::tree::noise;
use icecore::backend::key::ObjectKey;
use icecore::backend::memory::MemoryBackend;
use icecore::base::id::LeaseId;
use icecore::base::secret::Secret;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

type Objects = BTreeMap<ObjectKey, Vec<u8>>;

/// Where the repository is that nobody has to name.
pub(super) const REPOSITORY: &str = ".local/share/icecore";
/// What `damage` has sealed its repositories with.
const PASSWORD: &str = "glacier";
/// Another password, and the file that it is in.
pub(super) const NEWER: &str = "newer";
/// An empty repository to copy to.
const OTHER: &str = "there";
/// What is restored, and what is exported.
pub(super) const OUT: &str = "out";
pub(super) const ARCHIVE: &str = "out.tar";
/// A run that takes longer hangs.
const SECONDS_MAX: &str = "60";

/// The six damages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Damage {
    Lost,
    Empty,
    Cut,
    Flipped,
    Garbage,
    Anothers,
}

pub(super) const DAMAGES: [Damage; 6] =
    [Damage::Lost, Damage::Empty, Damage::Cut, Damage::Flipped, Damage::Garbage, Damage::Anothers];

/// One of two repositories, with the home in which the program runs.
pub(super) struct Ground {
    pub(super) state: State,
    pub(super) is_encrypted: bool,
    pub(super) home: Home,
    /// The slot of the password in use.
    slot: String,
    sound: Objects,
    other: Objects,
    /// Every object with what it is, in the order in which they were written.
    pub(super) kinds: Vec<(ObjectKey, &'static str)>,
}

fn write(place: &Path, objects: &Objects) {
    let _ = fs::remove_dir_all(place);
    fs::create_dir_all(place).unwrap();
    for (key, bytes) in objects {
        let file = place.join(key.as_str());
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
}

/// Reads what is stored below a folder; not what is under way there.
fn read(place: &Path) -> Objects {
    let mut objects = Objects::new();
    for file in files_below(place) {
        let key = file.strip_prefix(place).unwrap().to_str().unwrap();
        if let Ok(key) = ObjectKey::new(key)
            && !key.as_str().starts_with("tmp/")
        {
            objects.insert(key, fs::read(&file).unwrap());
        }
    }
    objects
}

/// Returns the slot of the password that it is opened by; nothing where there is none.
fn slot_in_use(state: &State, is_encrypted: bool) -> String {
    let repository = state.open(&Arc::new(state.backend.clone_state())).unwrap();
    let slot = |()| repository.slot_of(&Secret::new(PASSWORD.into())).unwrap().to_string();
    is_encrypted.then_some(()).map(slot).unwrap_or_default()
}

/// An older revision lies in the place of a newer one, and nothing seals it for its own.
pub(super) const OLDER: &str = "older";
/// What lies in the place of another is of its size.
pub(super) const SAME_SIZE: &str = "same size";

impl Ground {
    pub(super) fn new(is_encrypted: bool) -> Self {
        let state = damage::state::build(true, is_encrypted, true);
        let mut home = Home::at(Folder::in_memory());
        home.done(&["-r", OTHER, "init"]);
        let other = read(&home.path(OTHER));
        if is_encrypted {
            home.set("ICECORE_PASSWORD", PASSWORD);
            home.set("ICECORE_NEW_PASSWORD", NEWER);
        }
        home.write("source/new", &noise(5000, 77));
        home.write("source/d/empty", b"");
        home.write(NEWER, NEWER.as_bytes());
        let sound = state.backend.objects();
        let lost = cases(&state).into_iter().filter(|case| case.way == "delete");
        let kinds = lost.map(|case| (case.changes[0].0.clone(), case.kind)).collect();
        let slot = slot_in_use(&state, is_encrypted);
        Ground { state, is_encrypted, home, slot, sound, other, kinds }
    }

    /// Returns what a damage makes of an object.
    pub(super) fn case(&self, at: usize, damage: Damage, random: &mut Random) -> Case {
        let (key, kind) = &self.kinds[at];
        let mut bytes = self.sound[key].clone();
        let is_same = |(other, of): &&(ObjectKey, &str)| of == kind && other != key;
        let damaged = match damage {
            Damage::Lost => None,
            Damage::Empty => Some(Vec::new()),
            Damage::Cut => {
                bytes.truncate(random.below(bytes.len() as u64 - 1) as usize + 1);
                Some(bytes)
            }
            Damage::Flipped => {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << random.below(8);
                Some(bytes)
            }
            Damage::Garbage => {
                bytes.extend(noise(1 + random.below(300) as usize, random.below(1000)));
                Some(bytes)
            }
            // Of its own kind where there is another, as that passes for more.
            Damage::Anothers => {
                let alike: Vec<_> = self.kinds.iter().filter(is_same).collect();
                let all: Vec<_> = self.kinds.iter().filter(|(other, _)| other != key).collect();
                let among = if alike.is_empty() { all } else { alike };
                let other = &among[random.below(among.len() as u64) as usize].0;
                Some(self.sound[other].clone())
            }
        };
        let way = match damage {
            Damage::Lost => "delete",
            Damage::Anothers => self.way_of_exchange(key, damaged.as_deref().unwrap_or_default()),
            Damage::Empty | Damage::Cut | Damage::Flipped | Damage::Garbage => "damage",
        };
        Case { kind, way, changes: vec![(key.clone(), damaged)] }
    }

    /// Says what an object passes for that lies in the place of another.
    fn way_of_exchange(&self, key: &ObjectKey, bytes: &[u8]) -> &'static str {
        let revised =
            key.as_str().split_once(".tags-").map(|(backup, _)| format!("{backup}.tags-"));
        let is_revision = |other: &ObjectKey| {
            revised.as_ref().is_some_and(|revised| other.as_str().starts_with(revised.as_str()))
        };
        let is_older = || self.sound.iter().any(|(it, has)| has == bytes && is_revision(it));
        if !self.is_encrypted && is_older() {
            OLDER
        } else if self.sound[key].len() == bytes.len() {
            SAME_SIZE
        } else {
            "damage"
        }
    }

    /// Puts the home back to what it was, with a repository in which something is damaged.
    pub(super) fn reset(&self, case: Option<&Case>) {
        let mut objects = self.sound.clone();
        for (key, bytes) in case.iter().flat_map(|case| &case.changes) {
            match bytes {
                Some(bytes) => _ = objects.insert(key.clone(), bytes.clone()),
                None => _ = objects.remove(key),
            }
        }
        write(&self.home.path(REPOSITORY), &objects);
        write(&self.home.path(OTHER), &self.other);
        for below in [".cache", OUT] {
            let _ = fs::remove_dir_all(self.home.path(below));
        }
        let _ = fs::remove_file(self.home.path(ARCHIVE));
    }

    /// Runs the program, and gives it up when it does not end.
    pub(super) fn run(&self, arguments: &[&str]) -> (Ran, Vec<u8>) {
        let mut command = self.home.command_under("/usr/bin/timeout", &[SECONDS_MAX]);
        let output = command.args(arguments).output().unwrap();
        let bytes = output.stdout.clone();
        (Ran::of(output), bytes)
    }

    /// Runs what a row says.
    pub(super) fn type_in(&self, row: &Row) -> (Ran, Vec<u8>) {
        let slots = self.sound.keys().filter(|key| key.as_str().starts_with("keys/"));
        let mut others = slots.map(ObjectKey::name).filter(|name| *name != self.slot);
        let other = others.next().unwrap_or("none");
        let lease = LeaseId::new([2; 16]).to_string();
        let typed = row.arguments.replace("{slot}", other).replace("{lease}", &lease);
        self.run(&typed.split(' ').collect::<Vec<_>>())
    }

    /// Restores everything of what is in the home by the library, and returns what came back as
    /// it was, and what was wrong with the rest.
    pub(super) fn restored(&self, case: &Case) -> (BTreeSet<Label>, Vec<String>) {
        let backend = MemoryBackend::default();
        for (key, bytes) in read(&self.home.path(REPOSITORY)) {
            backend.insert_raw(&key, bytes);
        }
        let outcome = damage::run(&self.state, case, &backend, &OPERATIONS[0]);
        (outcome.restored, outcome.complaints)
    }

    /// Returns the objects of the repository that copies go to.
    pub(super) fn copied(&self) -> MemoryBackend {
        let backend = MemoryBackend::default();
        for (key, bytes) in read(&self.home.path(OTHER)) {
            backend.insert_raw(&key, bytes);
        }
        backend
    }
}
