//! What a power cut may leave of a disk: for everything that is not durable, one of its values.

use crate::crash::disk::Bytes;
use crate::crash::disk::Inode;
use crate::crash::disk::Node;
use crate::crash::disk::Tree;
use crate::support::random::Random;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// Up to so many combinations are all tried: six things that are there or not.
const EXHAUSTIVE_MAX: usize = 64;

/// One thing that is not durable.
#[derive(Clone, Debug)]
enum Open {
    /// A name, and how many values it may have.
    Name(Inode, OsString, usize),
    /// The content of a file, and what it may be: each value before, half of it, zeros.
    Content(Inode, Vec<Bytes>),
    /// Names that came and went again. Too many to be tried one by one, and all garbage: all of
    /// them are there or none.
    Ghosts(Vec<(Inode, OsString)>),
}

impl Open {
    fn choices(&self) -> usize {
        match self {
            Open::Name(_, _, values) => *values,
            Open::Content(_, values) => values.len(),
            Open::Ghosts(_) => 2,
        }
    }
}

/// For each open thing which of its values is there; the last is what the machine showed.
pub(super) type Choice = Vec<usize>;

/// All that is not durable at one moment.
pub(super) struct Cut<'a> {
    tree: &'a Tree,
    open: Vec<Open>,
}

impl<'a> Cut<'a> {
    pub(super) fn of(tree: &'a Tree) -> Self {
        let mut open = Vec::new();
        let mut ghosts = Vec::new();
        for (inode, node) in tree.nodes.iter().enumerate() {
            match node {
                Node::File(values) if values.len() > 1 => {
                    open.push(Open::Content(inode, torn(values)))
                }
                Node::File(_) => {}
                Node::Folder(names) => {
                    for (name, values) in names.iter().filter(|(_, values)| values.len() > 1) {
                        if values[0].is_none() && values[values.len() - 1].is_none() {
                            ghosts.push((inode, name.clone()));
                        } else {
                            open.push(Open::Name(inode, name.clone(), values.len()));
                        }
                    }
                }
            }
        }
        if !ghosts.is_empty() {
            open.push(Open::Ghosts(ghosts));
        }
        Cut { tree, open }
    }

    /// Returns what to try: everything when little is open, else everything lost, everything
    /// there, each thing and each pair of things lost or kept alone, and some at random.
    pub(super) fn choices(&self, seed: u64) -> BTreeSet<Choice> {
        let mut random = Random(seed);
        let last: Choice = self.open.iter().map(|open| open.choices() - 1).collect();
        let is_ghost = |at: usize| matches!(self.open[at], Open::Ghosts(_));
        let real: Vec<usize> = (0..self.open.len()).filter(|&at| !is_ghost(at)).collect();
        let product: usize =
            real.iter().fold(1, |product, &at| product.saturating_mul(self.open[at].choices()));
        let mut all = BTreeSet::new();
        if product <= EXHAUSTIVE_MAX {
            for number in 0..product {
                let (mut rest, mut choice) = (number, last.clone());
                for &at in &real {
                    choice[at] = rest % self.open[at].choices();
                    rest /= self.open[at].choices();
                }
                all.insert(choice);
            }
        } else {
            let first = vec![0; last.len()];
            for &one in &real {
                for value in 0..self.open[one].choices() {
                    all.insert(with(&last, one, value));
                    all.insert(with(&first, one, value));
                }
                for &other in &real {
                    all.insert(with(&with(&last, one, 0), other, 0));
                }
            }
            for _ in 0..EXHAUSTIVE_MAX / 4 {
                all.insert(
                    self.open
                        .iter()
                        .map(|open| random.below(open.choices() as u64) as usize)
                        .collect(),
                );
            }
        }
        let mut haunted: BTreeSet<Choice> = all
            .into_iter()
            .map(|mut choice| {
                let ghosts = (0..choice.len()).filter(|&at| is_ghost(at));
                ghosts.for_each(|at| choice[at] = random.below(2) as usize);
                choice
            })
            .collect();
        // What a killed process leaves, with nothing lost, is always among them.
        haunted.insert(last);
        haunted
    }

    /// Returns the choice of a cut that takes all it may.
    pub(super) fn nothing_kept(&self) -> Choice {
        vec![0; self.open.len()]
    }

    /// Returns the disk as it is found after the cut, all of it durable.
    pub(super) fn wake(&self, choice: &Choice) -> Tree {
        let mut nodes = self.tree.nodes.clone();
        for (open, &value) in self.open.iter().zip(choice) {
            match open {
                Open::Name(folder, name, _) => {
                    pick(&mut nodes, *folder, name, |values| values[value]);
                }
                Open::Content(inode, values) => {
                    nodes[*inode] = Node::File(vec![Arc::clone(&values[value])]);
                }
                Open::Ghosts(ghosts) => {
                    for (folder, name) in ghosts {
                        let was = |values: &[Option<Inode>]| values.iter().rev().find_map(|v| *v);
                        let is_back = value == 0;
                        let now = |values: &[_]| if is_back { was(values) } else { None };
                        pick(&mut nodes, *folder, name, now);
                    }
                }
            }
        }
        Tree { nodes }
    }

    /// Says what is not as the machine showed it.
    pub(super) fn lost(&self, choice: &Choice) -> Vec<String> {
        let paths = self.paths();
        let path = |inode: &Inode| paths.get(inode).cloned().unwrap_or_else(|| "?".to_owned());
        let lost =
            self.open.iter().zip(choice).filter(|(open, value)| **value + 1 < open.choices());
        lost.map(|(open, value)| match open {
            Open::Name(folder, name, _) => {
                format!("{}/{} is as before ({value})", path(folder), name.display())
            }
            Open::Content(inode, values) => {
                format!("{} has other bytes: {} ({value})", path(inode), values[*value].len())
            }
            Open::Ghosts(ghosts) => format!("{} removed names are back", ghosts.len()),
        })
        .collect()
    }

    fn paths(&self) -> BTreeMap<Inode, String> {
        let mut paths = BTreeMap::from([(0, String::new())]);
        for (folder, node) in self.tree.nodes.iter().enumerate() {
            let Node::Folder(names) = node else { continue };
            for (name, values) in names {
                let above = paths.get(&folder).cloned().unwrap_or_default();
                for inode in values.iter().flatten() {
                    paths.insert(*inode, format!("{above}/{}", name.display()));
                }
            }
        }
        paths
    }
}

fn with(choice: &Choice, at: usize, value: usize) -> Choice {
    let mut changed = choice.clone();
    changed[at] = value;
    changed
}

fn pick(
    nodes: &mut [Node],
    folder: Inode,
    name: &OsString,
    choose: impl Fn(&[Option<Inode>]) -> Option<Inode>,
) {
    let Node::Folder(names) = &mut nodes[folder] else { return };
    let value = choose(&names[name]);
    match value {
        Some(inode) => names.insert(name.clone(), vec![Some(inode)]),
        None => names.remove(name),
    };
}

/// What may be found of content that was written and not synced; what was written last.
fn torn(values: &[Bytes]) -> Vec<Bytes> {
    let (newest, before) = values.split_last().unwrap();
    let mut torn = before.to_vec();
    torn.push(Arc::new(newest[..newest.len() / 2].to_vec()));
    torn.push(Arc::new(vec![0; newest.len()]));
    torn.push(Arc::clone(newest));
    torn
}

/// Returns a name of all that a disk shows.
pub(super) fn hash_of(tree: &Tree) -> [u8; 32] {
    let mut parts = BTreeMap::new();
    tree.visit(&mut |path, bytes| {
        parts.insert(path.to_owned(), bytes.map(|bytes| blake3::hash(bytes)));
    });
    let mut hasher = blake3::Hasher::new();
    for (path, bytes) in parts {
        hasher.update(path.as_os_str().as_bytes());
        hasher.update(bytes.as_ref().map_or(&[0], |hash| hash.as_bytes()));
    }
    *hasher.finalize().as_bytes()
}
