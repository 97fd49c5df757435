//! Each read of each command refused once, or once and for good: the command says so, or what it
//! shows and leaves is just what it is without.

use crate::crash::depth::Depth;
use crate::crash::looks::ACTS;
use crate::crash::looks::Deed;
use crate::crash::looks::LOOKS;
use crate::crash::looks::Scene;
use crate::crash::looks::Seen;
use crate::crash::looks::content_of;
use crate::engine_check::world::NOW;
use crate::support::refusing::Refusal;
use crate::support::refusing::Refusing;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::backend::memory::MemoryBackend;
use icecore::base::cancel::Cancel;
use icecore::base::error::Result;
use icecore::base::id::BackupId;
use icecore::base::progress::Silent;
use icecore::base::time::FixedClock;
use icecore::engine::Context;
use icecore::engine::backup::BackupOptions;
use icecore::engine::check;
use icecore::engine::check::CheckOptions;
use icecore::engine::parity;
use icecore::engine::restore;
use icecore::engine::restore::RestoreOptions;
use icecore::engine::tag;
use icecore::engine::tag::TagChange;
use icecore::repository::Repository;
use icecore::repository::cache::CachePlace;
use icecore::repository::open;
use icecore::source::memory::MemorySource;
use icecore::target::memory::MemoryTarget;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reads of each command that an ordinary run refuses.
const READS: usize = 4;

/// A repository with all that small objects there are for, which is sound.
struct Stage {
    store: MemoryBackend,
    source: MemorySource,
}

/// What stands in a repository for a person: of each dataset the backups by number, with their
/// tags and all of their content.
type State = BTreeMap<String, BTreeMap<u64, (Vec<String>, String)>>;

impl Stage {
    fn new(is_atomic: bool) -> Self {
        let mut world = if is_atomic { World::memory() } else { World::class_b() };
        world.threads = 1;
        let source = MemorySource::new("s");
        for n in 0..7 {
            source.put_file(format!("f{n}"), noise(3_000, n + 1));
            source.put_file("changing", noise(30_000, n + 50));
            // The chain of the last ones begins at one that is forgotten.
            let full = n < 3;
            let options = BackupOptions { full, ..BackupOptions::default() };
            world.backup_with(&source, &options).unwrap();
            if n == 3 {
                world.hide(1);
                world.hide(2);
                world.elsewhere().prune();
            }
        }
        let set = world.repository.dataset(&world.name()).unwrap();
        assert!(set.all_numbers().unwrap().floor() > 0, "there is a floor");
        for word in ["first", "second"] {
            let change = TagChange { set: Some(vec![word.to_owned()]), ..TagChange::default() };
            tag::run(&set, BackupId(5), &change, &world.context()).unwrap();
        }
        let other = MemorySource::new("t").file("g", b"other");
        let name = "other".parse().unwrap();
        let options = BackupOptions::default();
        let done = icecore::engine::backup::run(
            &world.repository,
            &name,
            &other,
            &options,
            &world.context(),
        );
        done.unwrap();
        world.repository.rename(&name, &"another".parse().unwrap(), NOW).unwrap();
        world.hide(3);
        parity::add(&world.repository, 10, &world.context()).unwrap();
        world.drop_leases();
        source.put_file("new", noise(2_000, 99));
        Stage { store: world.backend.clone_state(), source }
    }

    /// Does something on a copy, with a read refused. Returns what was seen, the keys of what was
    /// read, what was refused, and what is left.
    fn play(&self, deed: &Deed, refusal: Option<Refusal>) -> Played {
        let store = Arc::new(self.store.clone_state());
        let (refusing, scratch) = (Refusing::default(), CachePlace::Scratch(std::env::temp_dir()));
        let to = refusing.around(store.clone());
        refusing.begin("", refusal);
        let (clock, cancel) = (FixedClock::new(NOW), Cancel::new());
        let context = Context { progress: &Silent, cancel: &cancel, clock: &clock, threads: 1 };
        let seen = open::open(to, None, &scratch).and_then(|repository| {
            (deed.run)(&Scene { repository, source: &self.source, context })
        });
        let (reads, refused) = refusing.end();
        Played { seen, reads: reads.len(), refused, store }
    }
}

struct Played {
    seen: Result<Seen>,
    reads: usize,
    refused: Option<String>,
    store: Arc<MemoryBackend>,
}

impl Played {
    fn open(&self) -> Repository {
        let scratch = CachePlace::Scratch(std::env::temp_dir());
        open::open(self.store.clone(), None, &scratch).unwrap()
    }

    fn says_so(&self) -> bool {
        self.seen.as_ref().map_or(true, |seen| !seen.is_whole)
    }

    /// What of it people see, and nothing of what is left for the next run to tidy.
    fn state(&self) -> State {
        let repository = self.open();
        let (clock, cancel) = (FixedClock::new(NOW), Cancel::new());
        let context = Context { progress: &Silent, cancel: &cancel, clock: &clock, threads: 1 };
        let mut state = State::new();
        for set in repository.datasets().unwrap() {
            let numbers = set.all_numbers().unwrap();
            let backups = state.entry(set.name().to_string()).or_default();
            for backup in set.backups().unwrap() {
                let (n, tags) = (backup.header.number.0, backup.tags.clone());
                let snapshot = set.snapshot(&numbers, backup).unwrap();
                let (target, options) = (MemoryTarget::new(), RestoreOptions::default());
                let report = restore::run(&snapshot, &target, &options, &context).unwrap();
                assert_eq!(report.errors, [], "backup_{n}");
                backups.insert(n, (tags, format!("{:?}", content_of(&target))));
            }
        }
        state
    }

    fn judge_damage(&self) -> std::result::Result<(), String> {
        let (clock, cancel) = (FixedClock::new(NOW), Cancel::new());
        let context = Context { progress: &Silent, cancel: &cancel, clock: &clock, threads: 1 };
        let report = check::run(&self.open(), &CheckOptions::default(), &context);
        let report = report.map_err(|e| format!("a check fails: {e:?}"))?;
        if report.is_ok() { Ok(()) } else { Err(format!("damage: {:?}", report.findings)) }
    }
}

/// Of what only looks, all is as without, or it says so; and nothing is left of it.
fn judge_look(sound: &Played, played: &Played) -> std::result::Result<(), String> {
    let same = match (&sound.seen, &played.seen) {
        (Ok(sound), Ok(seen)) => sound.text == seen.text,
        _ => false,
    };
    if !played.says_so() && !same {
        return Err("it shows something else, and says nothing".to_owned());
    }
    if sound.store.objects() != played.store.objects() {
        let left = played.store.objects().into_keys();
        let left: Vec<_> = left.filter(|it| !sound.store.objects().contains_key(it)).collect();
        return Err(format!("it changes the repository: {left:?}"));
    }
    Ok(())
}

/// What acts has done all of it, part of it, or nothing; only the first without a word. Whatever
/// it was, nothing else has changed.
fn judge_act(before: &State, sound: &State, played: &Played) -> std::result::Result<(), String> {
    played.judge_damage()?;
    let state = played.state();
    if !played.says_so() {
        let is_same = state == *sound;
        return if is_same { Ok(()) } else { Err("it has done something else".to_owned()) };
    }
    let names = |state: &State| state.keys().cloned().collect::<Vec<_>>();
    if names(&state) != names(before) {
        return Err(format!("there are other datasets: {:?}", names(&state)));
    }
    for (name, backups) in &state {
        let (before, sound) = (&before[name], &sound[name]);
        let stays = |n: &u64| before.contains_key(n) && sound.contains_key(n);
        if let Some(n) = before.keys().filter(|n| stays(n)).find(|n| !backups.contains_key(n)) {
            return Err(format!("{name}@{n} is gone"));
        }
        for (n, backup) in backups {
            if before.get(n).or(sound.get(n)) != Some(backup) {
                return Err(format!("{name}@{n} is not what it was"));
            }
        }
    }
    Ok(())
}

/// Refuses reads of everything, and returns how many.
pub(super) fn refuse_each_read(depth: &Depth, is_all: bool) -> usize {
    let (mut refused, mut wrong) = (0, Vec::new());
    for is_atomic in [true, false] {
        // Without an atomic create little is otherwise for readers.
        if !is_atomic && !is_all {
            continue;
        }
        let stage = Stage::new(is_atomic);
        let untouched = stage.play(&Deed { name: "nothing", run: |_| Err(nothing()) }, None);
        let before = untouched.state();
        let deeds = LOOKS.iter().map(|deed| (deed, false)).chain(ACTS.iter().map(|it| (it, true)));
        for (nth, (deed, acts)) in deeds.enumerate() {
            let sound = stage.play(deed, None);
            assert!(!sound.says_so(), "{}: {:?}", deed.name, sound.seen.map(|it| it.text));
            let after = if acts { sound.state() } else { State::new() };
            let reads = match is_all {
                true => (0..sound.reads).collect(),
                false => depth.spread(sound.reads, READS, nth),
            };
            let count = reads.len();
            for (turn, at) in reads.into_iter().enumerate() {
                let both = [Refusal::Once(at), Refusal::ForGood(at)];
                let ways = if is_all { &both[..] } else { &both[turn % 2..=turn % 2] };
                for refusal in ways {
                    let played = stage.play(deed, Some(*refusal));
                    refused += usize::from(played.refused.is_some());
                    let judged = match acts {
                        true => judge_act(&before, &after, &played),
                        false => judge_look(&sound, &played),
                    };
                    let what = judged.err().map(|what| {
                        let key = &played.refused;
                        format!("{}: {what}, with {refusal:?} of {key:?}", deed.name)
                    });
                    wrong.extend(what);
                }
            }
            let class = if is_atomic { "A" } else { "B" };
            eprintln!("class {class}, {}: {count} of {} reads", deed.name, sound.reads);
        }
    }
    assert!(wrong.is_empty(), "{} are wrong: {wrong:#?}", wrong.len());
    refused
}

fn nothing() -> icecore::base::error::Error {
    icecore::base::error::Error::invalid("nothing is done")
}
