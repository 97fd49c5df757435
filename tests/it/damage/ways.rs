//! What can be done to a stored object.

use crate::damage::state::State;
use icecore::backend::key::ObjectKey;
use icecore::backend::memory::MemoryBackend;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

type Objects = BTreeMap<ObjectKey, Vec<u8>>;

/// One damage: what becomes of which objects.
pub(crate) struct Case {
    pub(crate) kind: &'static str,
    pub(crate) way: &'static str,
    pub(crate) changes: Vec<(ObjectKey, Option<Vec<u8>>)>,
}

impl Case {
    pub(crate) fn apply(&self, backend: &MemoryBackend) {
        for (key, bytes) in &self.changes {
            match bytes {
                Some(bytes) => backend.insert_raw(key, bytes.clone()),
                None => assert!(backend.remove_raw(key), "{key} was there"),
            }
        }
    }

    pub(crate) fn hits(&self, key: &ObjectKey) -> bool {
        self.changes.iter().any(|(changed, _)| changed == key)
    }
}

/// Names what kind of object some bytes are, by their frame.
pub(crate) fn kind_of(key: &ObjectKey, bytes: &[u8]) -> &'static str {
    match bytes[4] {
        1 => "config",
        2 => "key",
        3 => "name",
        4 => "header",
        5 => "void",
        6 => "hidden",
        7 => "tags",
        8 => "floor",
        9 => "lease",
        10 => "beat",
        11 => "tombstone",
        12 => "lost",
        13 => "pack",
        14 => "index",
        15 => "parity",
        16 | 17 => "mark",
        other => panic!("{key} is of kind {other}"),
    }
}

/// A header of which no later one tells that it must be there.
pub(crate) const NEWEST: &str = "newest header";

/// Returns the header of the highest number of each dataset, all of which are in one folder.
fn newest_headers(objects: &Objects) -> BTreeSet<ObjectKey> {
    let mut newest: BTreeMap<String, (u64, ObjectKey)> = BTreeMap::new();
    for (key, bytes) in objects {
        if !["header", "void"].contains(&kind_of(key, bytes)) {
            continue;
        }
        let number = key.name().split('-').next().and_then(|text| text.parse().ok());
        let found = (number.expect("it has a number"), key.clone());
        let highest = newest.entry(key.folder().to_string()).or_insert_with(|| found.clone());
        *highest = highest.clone().max(found);
    }
    newest.into_values().map(|(_, key)| key).collect()
}

/// A header that a floor says to remain.
pub(crate) const REMAINING: &str = "header below a floor";

fn is_below_floor(objects: &Objects, key: &ObjectKey) -> bool {
    let folder = key.folder().to_string();
    let number = key.name().split('-').next().and_then(|text| text.parse::<u64>().ok());
    objects.keys().any(|floor| {
        let height = floor.name().strip_prefix("floor-").and_then(|text| text.parse().ok());
        folder.starts_with(&floor.folder().to_string())
            && height.is_some_and(|it| number < Some(it))
    })
}

/// Where bytes are flipped: in each part of an object.
fn flips(kind: &str, bytes: &[u8]) -> Vec<(&'static str, usize)> {
    let end = bytes.len();
    if kind != "pack" {
        return vec![
            ("flip magic", 0),
            ("flip kind", 4),
            ("flip version", 5),
            ("flip flags", 6),
            ("flip length", 9),
            ("flip body", 16 + (end - 48) / 2),
            ("flip end of body", end - 33),
            ("flip checksum", end - 1),
        ];
    }
    let number: [u8; 4] = bytes[end - 36..end - 32].try_into().unwrap();
    let footer = end - 36 - u32::from_le_bytes(number) as usize;
    vec![
        ("flip head", 5),
        ("flip salt", 20),
        ("flip commitment", 60),
        ("flip blocks", 90),
        ("flip tables", footer - 5),
        ("flip footer", footer + 3),
        ("flip footer length", end - 35),
        ("flip checksum", end - 1),
    ]
}

fn changed(bytes: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Option<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    change(&mut bytes);
    Some(bytes)
}

/// A name that an object of this kind could have as well.
fn other_name(kind: &str, key: &ObjectKey, numbers: u64) -> Option<ObjectKey> {
    let (folder, name) = (key.folder(), key.name());
    let next = |text: &str| text.parse::<u64>().ok().map(|number| number + 1);
    // Another id: what stands behind the last hyphen or is all of the name.
    let other_id = |text: &str| {
        let last = if text.ends_with('7') { '8' } else { '7' };
        format!("{}{last}", &text[..text.len() - 1])
    };
    let name = match kind {
        "key" | "lease" | "tombstone" | "lost" | "pack" | "doomed pack" | "index" | "parity" => {
            other_id(name)
        }
        "name" => next(name)?.to_string(),
        "header" | NEWEST | REMAINING | "void" => match name.split_once('-') {
            Some((_, lease)) => format!("{numbers}-{}", other_id(lease)),
            None => numbers.to_string(),
        },
        // Of a backup that nobody forgot.
        "hidden" => "0.hidden".to_owned(),
        "tags" | "floor" | "beat" => {
            let (start, number) = name.rsplit_once('-')?;
            format!("{start}-{}", next(number)?)
        }
        _ => return None,
    };
    Some(folder.object(&name).expect("a key"))
}

/// Ways of which there is one for each byte.
pub(crate) const OF_BYTES: [&str; 2] = ["flip each byte", "cut everywhere"];
/// A small object is one whose bytes are flipped one by one.
const SMALL_BYTES: usize = 1500;
/// How many bytes of a larger one are, spread evenly.
const SAMPLES: usize = 48;

/// Flips each byte of small objects and cuts them at each length, and does so with some of larger
/// ones: of the first and the last object of each kind.
pub(crate) fn byte_cases(state: &State) -> Vec<Case> {
    let objects: Objects = state.backend.objects();
    let doomed = state.doomed();
    let mut of_kind: BTreeMap<&str, Vec<&ObjectKey>> = BTreeMap::new();
    for key in &state.order {
        let kind = if doomed.contains(key) { "doomed pack" } else { kind_of(key, &objects[key]) };
        of_kind.entry(kind).or_default().push(key);
    }
    let mut cases = Vec::new();
    for (kind, keys) in of_kind {
        let (first, last) = (keys[0], keys[keys.len() - 1]);
        for key in [first, last].into_iter().take(keys.len().min(2)) {
            let bytes = &objects[key];
            let step = if bytes.len() <= SMALL_BYTES { 1 } else { bytes.len() / SAMPLES };
            for at in (0..bytes.len()).step_by(step) {
                let bit = 1 << (at % 8);
                let flipped = changed(bytes, |bytes| bytes[at] ^= bit);
                let cut = Some(bytes[..at].to_vec());
                for (way, bytes) in [("flip each byte", flipped), ("cut everywhere", cut)] {
                    cases.push(Case { kind, way, changes: vec![(key.clone(), bytes)] });
                }
            }
        }
    }
    cases
}

/// Everything that can be done to one object alone.
fn alone(kind: &str, bytes: &[u8]) -> Vec<(&'static str, Option<Vec<u8>>)> {
    let mut ways: Vec<_> = flips(kind, bytes)
        .into_iter()
        .map(|(way, at)| (way, changed(bytes, |bytes| bytes[at] ^= 0x10)))
        .collect();
    let middle = bytes.len() / 2;
    ways.extend([
        ("delete", None),
        ("cut by one", changed(bytes, |bytes| bytes.truncate(bytes.len() - 1))),
        ("cut in half", changed(bytes, |bytes| bytes.truncate(middle))),
        ("cut to nothing", Some(Vec::new())),
        ("zero", changed(bytes, |bytes| bytes.fill(0))),
        ("zero second half", changed(bytes, |bytes| bytes[middle..].fill(0))),
        ("append garbage", changed(bytes, |bytes| bytes.extend([0xa5; 100]))),
    ]);
    ways
}

/// All cases of a state.
pub(crate) fn cases(state: &State) -> Vec<Case> {
    let objects: Objects = state.backend.objects();
    let doomed = state.doomed();
    let newest = newest_headers(&objects);
    let mut cases = Vec::new();
    let numbers =
        objects.keys().filter_map(|key| key.name().split('-').next()?.parse::<u64>().ok());
    let numbers = numbers.max().unwrap_or(0) + 1;
    for (at, key) in state.order.iter().enumerate() {
        let bytes = &objects[key];
        let ways = alone(kind_of(key, bytes), bytes);
        let kind = match kind_of(key, bytes) {
            "pack" if doomed.contains(key) => "doomed pack",
            "header" if newest.contains(key) => NEWEST,
            "header" if is_below_floor(&objects, key) => REMAINING,
            kind => kind,
        };
        for (way, changed) in ways {
            cases.push(Case { kind, way, changes: vec![(key.clone(), changed)] });
        }
        let other = other_name(kind, key, numbers);
        // What has that name already is another case.
        if let Some(other) = other.filter(|other| !objects.contains_key(other)) {
            let changes = vec![(other, Some(bytes.clone()))];
            cases.push(Case { kind, way: "duplicate", changes });
        }
        let alike = |other: &&ObjectKey| kind_of(other, &objects[*other]) == kind_of(key, bytes);
        let before: Vec<&ObjectKey> = state.order[..at].iter().filter(alike).collect();
        if let Some(&older) = before.last() {
            let swap = vec![
                (key.clone(), Some(objects[older].clone())),
                (older.clone(), Some(bytes.clone())),
            ];
            cases.push(Case { kind, way: "swap", changes: swap });
            let older = vec![(key.clone(), Some(objects[older].clone()))];
            cases.push(Case { kind, way: "replace by older", changes: older });
        }
    }
    cases
}
