//! Where the tables of each pack stand in it.

use crate::base::id::PackId;
use crate::repository::index::Segments;
use std::ops::Range;

/// For each pack the beginning of its name and the bytes that its tables fill, in order: 16 bytes,
/// 2 MB for a terabyte of packs. Rows are in the order of blocks, so that to look for those of one
/// pack takes as long as for those of all.
pub(super) struct TableStretches(Vec<(u64, u32, u32)>);

impl TableStretches {
    pub(super) fn of(segments: &Segments) -> Self {
        let mut stretches = Vec::new();
        for segment in segments.values() {
            let mut of_packs: Vec<Option<(u32, u32)>> = vec![None; segment.packs().count()];
            for (pack, table) in (0..segment.len()).filter_map(|n| segment.table(n)) {
                let Some(stretch) = of_packs.get_mut(pack as usize) else { continue };
                let (start, end) = stretch.unwrap_or((table.start, table.end));
                *stretch = Some((start.min(table.start), end.max(table.end)));
            }
            let packs = segment.packs().zip(of_packs);
            stretches.extend(packs.filter_map(|(indexed, stretch)| {
                stretch.map(|(start, end)| (beginning(&indexed.pack), start, end))
            }));
        }
        stretches.sort_unstable();
        TableStretches(stretches)
    }

    /// Returns the bytes of a pack in which all tables are that some object names.
    pub(super) fn find(&self, pack: &PackId) -> Option<Range<u32>> {
        let begin = beginning(pack);
        let first = self.0.partition_point(|(other, ..)| *other < begin);
        let alike = self.0[first..].iter().take_while(|(other, ..)| *other == begin);
        let joined = alike.map(|(_, start, end)| (*start, *end));
        joined.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).map(|(start, end)| start..end)
    }
}

/// Returns the beginning of a pack's name, which is as good as random.
fn beginning(pack: &PackId) -> u64 {
    pack.as_bytes().first_chunk::<8>().map_or(0, |first| u64::from_be_bytes(*first))
}
