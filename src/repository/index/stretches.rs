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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::BlockId;
    use crate::base::id::IndexId;
    use crate::base::id::LeaseId;
    use crate::format::pack::BlockRow;
    use crate::format::pack_index;
    use crate::format::pack_index::IndexTable;
    use crate::format::pack_index::IndexedPack;
    use crate::repository::index::Segment;
    use crate::repository::index::Slice;
    use std::sync::Arc;

    /// Two packs, and rows of (pack, block, offset and length of its table).
    fn segment(rows: &[(u32, u8, u32, u32)]) -> Arc<Segment> {
        let packs = [pack(1), pack(2)].map(|pack| IndexedPack { pack, size: 9000, salt: [0; 32] });
        let row = |(_, block, table_offset, table_length): &(u32, u8, u32, u32)| BlockRow {
            block: BlockId::new([*block; 32]),
            offset: 100,
            length: 5,
            plain_length: 50,
            table_offset: *table_offset,
            table_length: *table_length,
            places: 1,
            number: 0,
            class: 0,
            present: Vec::new(),
            hooks: Vec::new(),
        };
        let made: Vec<BlockRow> = rows.iter().map(row).collect();
        let rows: Vec<(u32, &BlockRow)> = rows.iter().map(|(n, ..)| *n).zip(&made).collect();
        let plain = pack_index::encode(LeaseId::new([0; 16]), &packs, &rows).expect("encodes");
        Arc::new(IndexTable::new(Slice::memory(plain)).expect("sound"))
    }

    fn pack(n: u8) -> PackId {
        let mut bytes = [7; 32];
        bytes[0] = n;
        PackId::new(bytes)
    }

    #[test]
    fn all_tables_of_a_pack_are_within_whatever_objects_name_them() {
        let one = segment(&[(0, 9, 500, 100), (1, 3, 50, 20), (0, 1, 400, 50)]);
        let two = segment(&[(0, 5, 620, 20)]);
        let segments = [(IndexId::new([1; 16]), one), (IndexId::new([2; 16]), two)];

        let stretches = TableStretches::of(&segments.into_iter().collect());

        assert_eq!(stretches.find(&pack(1)), Some(400..640));
        assert_eq!(stretches.find(&pack(2)), Some(50..70));
        assert_eq!(stretches.find(&pack(3)), None);
    }

    #[test]
    fn tables_beyond_all_bounds_are_nowhere() {
        let segments = [(IndexId::new([1; 16]), segment(&[(0, 1, u32::MAX - 5, 10)]))];
        let stretches = TableStretches::of(&segments.into_iter().collect());
        assert_eq!(stretches.find(&pack(1)), None);
    }
}
