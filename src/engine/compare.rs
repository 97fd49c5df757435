//! Merges a scan with the previous snapshot and says, path by path, what changed and why.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::metadata::Detection;
use crate::base::metadata::Kind;
use crate::base::path::EntryPath;
use crate::base::time::Timestamp;
use crate::format::entry::Entry;
use crate::format::entry::EntryNode;
use crate::format::entry::TrackedEntry;
use crate::repository::lost::LostPlaces;
use crate::source::ScanItem;
use crate::source::Source;
use crate::source::SourceEntry;
use std::cmp::Ordering;
use std::iter::Peekable;

/// Times with a fraction tick at least this often; a file may change within one tick.
const FINE_TICK_NANOS: u32 = 50_000_000;
/// What is written through a memory map moves the time of its file once, and not again before the
/// system has written it out, which Linux does half a minute later.
const MAPPED_SECONDS: i64 = 60;
/// File systems without fractions tick in up to two seconds.
const COARSE_TICK_SECONDS: i64 = 2;

const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// Why an entry has to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It was not there.
    New,
    /// It is of another kind.
    Kind,
    /// Its length differs.
    Size,
    /// Its time differs.
    Time,
    /// Its inode, or the inode's time, or its version tag differs.
    Inode,
    /// Mode, owner or links differ.
    Metadata,
    /// It may have changed within one tick of the clock of the run that read it.
    Racy,
    /// Everything is read, by wish or because the source shows no sign of change.
    ReadAll,
    /// Repair declared some of its content lost.
    Lost,
}

/// What a comparison yields, in path order.
#[derive(Debug)]
pub enum Compared {
    /// As before, by all signs. The entry is the one before.
    Same(Box<TrackedEntry>),
    /// New, or perhaps changed: to be opened.
    Look(SourceEntry, Option<Box<TrackedEntry>>, Reason),
    /// Below what could not be looked at: it stays as it was.
    Unseen(Box<TrackedEntry>),
    /// Not there any more.
    Gone(Box<TrackedEntry>),
    /// Could not be looked at; what was there before stays as it was.
    Failed(EntryPath, Error),
    /// Left out on purpose.
    Skipped(EntryPath, String),
}

/// How entries are compared.
#[derive(Debug)]
pub struct Rules {
    /// Read everything.
    pub read_all: bool,
    /// Whether the scan tells kinds, modes, owners and times; see
    /// [`crate::source::Source::tells_metadata`].
    pub tells_metadata: bool,
    /// Whether files may be written to without a later time for a while; see
    /// [`crate::source::Source::may_be_mapped`].
    pub may_be_mapped: bool,
    /// Whether the previous entries are those of another place.
    pub is_elsewhere: bool,
    /// When the previous entries were last found to be as they are.
    pub checked: Timestamp,
    /// Places whose content is lost.
    pub lost: LostPlaces,
}

impl Rules {
    /// The rules for a source, compared with what was found at a time.
    pub fn of(source: &dyn Source, read_all: bool, checked: Timestamp, lost: LostPlaces) -> Self {
        Rules {
            read_all,
            tells_metadata: source.tells_metadata(),
            may_be_mapped: source.may_be_mapped(),
            is_elsewhere: false,
            checked,
            lost,
        }
    }

    /// The rules for comparing with entries that were read at `location`.
    pub fn against(mut self, location: &str, source: &dyn Source) -> Self {
        self.is_elsewhere = location != source.location();
        self
    }
}

/// Says why an entry has to be looked at, or None when all signs say that it is as before.
pub fn reason(now: &SourceEntry, before: &TrackedEntry, rules: &Rules) -> Option<Reason> {
    let entry = &before.entry;
    let tells = rules.tells_metadata;
    // What is no file may be told as one, with the size of what it is kept as.
    let may_differ = !tells && now.kind == Kind::File && entry.kind() != Kind::Directory;
    let is_no_file = may_differ && entry.kind() != Kind::File;
    if now.kind != entry.kind() && !is_no_file {
        return Some(Reason::Kind);
    }
    if now.size != entry.size() && !is_no_file {
        return Some(Reason::Size);
    }
    if tells && now.metadata.mtime != entry.metadata.mtime {
        return Some(Reason::Time);
    }
    // Equal size and time are no sign between two places; an inode and its time, or a tag, are.
    let has_mark = now.detection.inode != 0 || !now.detection.tag.is_empty();
    let may_be_another = rules.is_elsewhere && now.kind == Kind::File && !has_mark;
    if now.detection != before.detection || may_be_another {
        return Some(Reason::Inode);
    }
    if tells && !same_metadata(now, entry) {
        return Some(Reason::Metadata);
    }
    if rules.read_all {
        return Some(Reason::ReadAll);
    }
    if rules.lost.touches(entry) {
        return Some(Reason::Lost);
    }
    let mtime = now.metadata.mtime;
    let may_hide = is_racy(mtime, now.detection.ctime, rules.checked)
        || is_mapped_maybe(now.kind, mtime, rules);
    may_hide.then_some(Reason::Racy)
}

fn same_metadata(now: &SourceEntry, entry: &Entry) -> bool {
    let same_node = match &entry.node {
        EntryNode::File(file) => file.hard_link == now.hard_link,
        EntryNode::CharDevice(major, minor) | EntryNode::BlockDevice(major, minor) => {
            (*major, *minor) == now.device
        }
        EntryNode::Directory | EntryNode::Symlink(_) | EntryNode::Fifo => true,
    };
    let (a, b) = (&now.metadata, &entry.metadata);
    same_node && a.mode == b.mode && (a.owner.uid, a.owner.gid) == (b.owner.uid, b.owner.gid)
}

/// What changed within the same tick as it was read shows no sign of it (the racy-git rule). The
/// inode's own time counts too: a program may put the time of the content back.
fn is_racy(mtime: Timestamp, ctime: Timestamp, checked: Timestamp) -> bool {
    settled(mtime).max(settled(ctime)) >= checked
}

/// Says whether an entry may have changed without a sign since it was seen last.
fn may_hide(entry: &Entry, detection: &Detection, rules: &Rules) -> bool {
    let mtime = entry.metadata.mtime;
    is_racy(mtime, detection.ctime, rules.checked) || is_mapped_maybe(entry.kind(), mtime, rules)
}

/// Says whether a file was written so shortly before it was read that a program which has it mapped
/// may have gone on writing without a sign.
fn is_mapped_maybe(kind: Kind, mtime: Timestamp, rules: &Rules) -> bool {
    let settled = mtime.plus_seconds(MAPPED_SECONDS);
    rules.may_be_mapped && kind == Kind::File && settled >= rules.checked
}

/// Returns when a clock that showed `time` shows a later one for certain.
fn settled(time: Timestamp) -> Timestamp {
    if time.nanos() == 0 {
        return time.plus_seconds(COARSE_TICK_SECONDS);
    }
    let nanos = time.nanos() + FINE_TICK_NANOS;
    let seconds = time.seconds().saturating_add(i64::from(nanos / NANOS_PER_SECOND));
    Timestamp::new(seconds, nanos % NANOS_PER_SECOND)
}

/// Streams the comparison of two sorted streams.
pub struct Comparison<S: Iterator, P: Iterator> {
    scan: Peekable<S>,
    previous: Peekable<P>,
    rules: Rules,
    /// Below this path nothing could be listed: what was there stays.
    unknown: Option<EntryPath>,
}

impl<S, P> Comparison<S, P>
where
    S: Iterator<Item = ScanItem>,
    P: Iterator<Item = Result<TrackedEntry>>,
{
    /// Compares a scan with the entries before.
    pub fn new(scan: S, previous: P, rules: Rules) -> Self {
        Comparison { scan: scan.peekable(), previous: previous.peekable(), rules, unknown: None }
    }

    fn take_previous(&mut self) -> Result<Option<Box<TrackedEntry>>> {
        Ok(self.previous.next().transpose()?.map(Box::new))
    }

    fn step(&mut self) -> Result<Option<Compared>> {
        if let Some(Err(_)) = self.previous.peek() {
            self.take_previous()?;
        }
        let before = match self.previous.peek() {
            Some(Ok(tracked)) => Some(&tracked.entry.path),
            _ => None,
        };
        let now = self.scan.peek().map(ScanItem::path);
        let order = match (now, before) {
            (None, None) => return Ok(None),
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(now), Some(before)) => now.cmp(before),
        };
        if order == Ordering::Greater {
            return Ok(self.take_previous()?.map(|gone| self.gone(gone)));
        }
        let is_entry = matches!(self.scan.peek(), Some(ScanItem::Entry(_)));
        if order == Ordering::Equal && !is_entry {
            return self.not_an_entry_now();
        }
        let before = if order == Ordering::Equal { self.take_previous()? } else { None };
        Ok(self.scan.next().map(|item| self.look(item, before)))
    }

    /// What was an entry could not be looked at, or is left out now; the previous entry comes
    /// after the note, and is judged on its own.
    fn not_an_entry_now(&mut self) -> Result<Option<Compared>> {
        Ok(self.scan.next().map(|item| self.look(item, None)))
    }

    fn gone(&self, gone: Box<TrackedEntry>) -> Compared {
        let is_unknown =
            self.unknown.as_ref().is_some_and(|folder| gone.entry.path.is_within(folder));
        match () {
            () if !is_unknown => Compared::Gone(gone),
            () if may_hide(&gone.entry, &gone.detection, &self.rules) => Compared::Unseen(gone),
            // What could hide no change from the run that saw it hides none from any later one.
            () => Compared::Same(gone),
        }
    }

    fn look(&mut self, item: ScanItem, before: Option<Box<TrackedEntry>>) -> Compared {
        match item {
            ScanItem::Failed(path, error) => {
                // What is within a folder that cannot be listed may be asked for by its name.
                let is_within = |folder: &EntryPath| path.is_within(folder);
                if !self.unknown.as_ref().is_some_and(is_within) {
                    self.unknown = Some(path.clone());
                }
                Compared::Failed(path, error)
            }
            ScanItem::Skipped(path, why) => Compared::Skipped(path, why),
            ScanItem::Entry(now) => match before {
                None => Compared::Look(now, None, Reason::New),
                Some(before) => match reason(&now, &before, &self.rules) {
                    None => Compared::Same(before),
                    Some(reason) => Compared::Look(now, Some(before), reason),
                },
            },
        }
    }
}

impl<S, P> Iterator for Comparison<S, P>
where
    S: Iterator<Item = ScanItem>,
    P: Iterator<Item = Result<TrackedEntry>>,
{
    type Item = Result<Compared>;
    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::metadata::Metadata;
    use crate::format::entry::Content;
    use crate::format::entry::FileNode;

    const CHECKED: Timestamp = Timestamp::new(1_000, 0);

    fn rules_at(checked: Timestamp) -> Rules {
        Rules {
            read_all: false,
            tells_metadata: true,
            may_be_mapped: false,
            is_elsewhere: false,
            checked,
            lost: LostPlaces::default(),
        }
    }

    fn now(path: &str, seconds: i64) -> SourceEntry {
        SourceEntry {
            path: EntryPath::new(path.as_bytes()).expect("a path"),
            kind: Kind::Directory,
            size: 0,
            metadata: Metadata { mtime: Timestamp::new(seconds, 0), ..Metadata::default() },
            detection: Detection::default(),
            hard_link: None,
            device: (0, 0),
            maybe_sparse: false,
        }
    }

    fn before(path: &str, seconds: i64) -> TrackedEntry {
        let SourceEntry { path, metadata, detection, .. } = now(path, seconds);
        TrackedEntry { entry: Entry { path, metadata, node: EntryNode::Directory }, detection }
    }

    fn compare(scan: Vec<ScanItem>, previous: Vec<TrackedEntry>) -> Vec<String> {
        let rules = rules_at(CHECKED);
        let previous = previous.into_iter().map(Ok);
        Comparison::new(scan.into_iter(), previous, rules)
            .map(|compared| match compared.expect("no error") {
                Compared::Same(tracked) => format!("= {}", tracked.entry.path),
                Compared::Unseen(tracked) => format!("? {}", tracked.entry.path),
                Compared::Look(entry, _, reason) => format!("{reason:?} {}", entry.path),
                Compared::Gone(tracked) => format!("- {}", tracked.entry.path),
                Compared::Failed(path, _) => format!("! {path}"),
                Compared::Skipped(path, _) => format!("~ {path}"),
            })
            .collect()
    }

    #[test]
    fn each_path_is_told_once_in_order() {
        let scan = ["", "a", "b/c", "d"].map(|path| ScanItem::Entry(now(path, 1)));
        let previous = vec![before("", 1), before("a", 2), before("b", 1), before("e", 1)];
        let told = compare(scan.into(), previous);
        assert_eq!(told, ["= ", "Time a", "- b", "New b/c", "New d", "- e"]);
    }

    #[test]
    fn below_a_folder_that_cannot_be_listed_everything_stays() {
        let path = EntryPath::new(b"a").expect("a path");
        let scan = vec![
            ScanItem::Entry(now("", 1)),
            ScanItem::Entry(now("a", 1)),
            ScanItem::Failed(path, Error::invalid("x")),
        ];
        let young = before("a/x", 999);
        let previous = vec![before("", 1), before("a", 1), young, before("a/y", 1), before("b", 1)];
        assert_eq!(compare(scan, previous), ["= ", "= a", "! a", "? a/x", "= a/y", "- b"]);
    }

    #[test]
    fn what_is_asked_for_by_name_in_such_a_folder_changes_nothing() {
        let path = |path: &[u8]| EntryPath::new(path).expect("a path");
        let failed = |at: &[u8]| ScanItem::Failed(path(at), Error::invalid("x"));
        let scan = vec![ScanItem::Entry(now("a", 1)), failed(b"a"), failed(b"a/c"), failed(b"d")];
        let previous = ["a", "a/b", "a/c", "a/d", "b", "d", "e"].map(|path| before(path, 1));
        let told = compare(scan, previous.into());
        assert_eq!(
            told,
            ["= a", "! a", "= a/b", "! a/c", "= a/c", "= a/d", "- b", "! d", "= d", "- e"]
        );
    }

    #[test]
    fn an_entry_that_cannot_be_looked_at_stays_as_it_was() {
        let path = EntryPath::new(b"a").expect("a path");
        let scan = vec![ScanItem::Failed(path, Error::invalid("x"))];
        assert_eq!(compare(scan, vec![before("a", 1), before("b", 1)]), ["! a", "= a", "- b"]);
    }

    #[test]
    fn a_file_as_young_as_the_run_that_read_it_is_read_again() {
        let mut entry = now("a", 999);
        entry.kind = Kind::Fifo;
        let mut old = before("a", 999);
        old.entry.node = EntryNode::Fifo;
        let rules = rules_at;
        assert_eq!(reason(&entry, &old, &rules(CHECKED)), Some(Reason::Racy));
        assert_eq!(reason(&entry, &old, &rules(Timestamp::new(1_002, 0))), None);
    }

    /// What a program writes through a map it has had for a while shows no later time.
    #[test]
    fn a_file_written_less_than_a_minute_before_it_was_read_is_read_again() {
        let rules = |may_be_mapped| Rules { may_be_mapped, ..rules_at(CHECKED) };
        let told = |may_be_mapped, kind, seconds| {
            is_mapped_maybe(kind, Timestamp::new(seconds, 0), &rules(may_be_mapped))
        };

        assert!(told(true, Kind::File, 941));
        assert!(!told(true, Kind::File, 939));
        assert!(!told(true, Kind::Fifo, 941), "it has no content");
        assert!(!told(false, Kind::File, 941));
        let mut old = before("a", 941);
        old.entry.node = EntryNode::Fifo;
        let entry = SourceEntry { kind: Kind::Fifo, ..now("a", 941) };
        assert_eq!(reason(&entry, &old, &rules(true)), None);
    }

    /// A bucket's listing shows objects; what they are kept as is only seen when they are read.
    #[test]
    fn what_a_scan_does_not_tell_is_no_change() {
        let rules = |tells_metadata| Rules { tells_metadata, ..rules_at(CHECKED) };
        let mut entry = now("a", 5);
        (entry.kind, entry.size) = (Kind::File, 3);
        let mut old = before("a", 1);
        old.entry.node = EntryNode::Symlink(b"abc".to_vec());
        assert_eq!(reason(&entry, &old, &rules(false)), None);
        assert_eq!(reason(&entry, &old, &rules(true)), Some(Reason::Kind));

        let mut replaced = entry.clone();
        replaced.detection.tag = b"other".to_vec();
        assert_eq!(reason(&replaced, &old, &rules(false)), Some(Reason::Inode));
        old.entry.node = EntryNode::Directory;
        assert_eq!(reason(&entry, &old, &rules(false)), Some(Reason::Kind));
    }

    #[test]
    fn a_file_of_another_place_without_a_mark_of_its_own_is_read() {
        let rules = |is_elsewhere| Rules { is_elsewhere, ..rules_at(CHECKED) };
        let mut old = before("a", 1);
        let file = FileNode {
            size: 0,
            cut: 0,
            hard_link: None,
            extents: None,
            content: Content::Runs(Vec::new()),
        };
        old.entry.node = EntryNode::File(file);
        let mut entry = SourceEntry { kind: Kind::File, ..now("a", 1) };
        assert_eq!(reason(&entry, &old, &rules(false)), None);
        assert_eq!(reason(&entry, &old, &rules(true)), Some(Reason::Inode));
        entry.detection.inode = 5;
        old.detection.inode = 5;
        assert_eq!(reason(&entry, &old, &rules(true)), None);
    }
}
