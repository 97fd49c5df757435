//! Where the content of a file stands in it: content is stored without holes, one extent after
//! the other.

use crate::base::metadata::Extent;
use crate::format::entry::FileNode;

/// The extents of one file, by their place in its content.
#[derive(Debug)]
pub(super) struct Layout {
    size: u64,
    /// None for a file without holes; else each extent with where it begins in the content.
    extents: Option<Vec<(u64, Extent)>>,
}

/// A stretch of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where it begins in the file.
    pub(super) offset: u64,
    /// How long it is.
    pub(super) length: u64,
}

impl Layout {
    /// Returns the layout of a file.
    pub(super) fn of(file: &FileNode) -> Self {
        let extents = file.extents.as_ref().map(|extents| {
            let mut start = 0;
            let place = |extent: &Extent| {
                let placed = (start, *extent);
                start += extent.length;
                placed
            };
            extents.iter().map(place).collect()
        });
        Layout { size: file.size, extents }
    }

    /// Returns the size of the file.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Returns roughly how many bytes of memory this takes.
    pub(super) fn weight(&self) -> usize {
        self.extents.as_ref().map_or(0, |extents| extents.len() * size_of::<(u64, Extent)>())
    }

    /// Returns where the last data ends; what lies behind is a hole.
    pub(super) fn data_end(&self) -> u64 {
        match &self.extents {
            None => self.size,
            Some(extents) => extents.last().map_or(0, |(_, last)| last.offset + last.length),
        }
    }

    /// Goes through the pieces of the file that a stretch of its content is written to.
    pub(super) fn pieces(&self, start: u64, length: u64) -> impl Iterator<Item = Piece> + '_ {
        let end = start.saturating_add(length);
        let mut at = start;
        let first = match &self.extents {
            None => 0,
            Some(extents) => {
                extents.partition_point(|(begin, _)| *begin <= start).saturating_sub(1)
            }
        };
        let mut number = first;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let piece = match &self.extents {
                None => Piece { offset: at, length: end - at },
                Some(extents) => {
                    let (begin, extent) = extents.get(number)?;
                    number += 1;
                    let within = at.checked_sub(*begin)?;
                    let length = extent.length.checked_sub(within)?.min(end - at);
                    Piece { offset: extent.offset + within, length }
                }
            };
            at += piece.length;
            Some(piece)
        })
    }

    /// Goes through the holes.
    pub(super) fn holes(&self) -> impl Iterator<Item = Piece> + '_ {
        let extents = self.extents.as_deref().unwrap_or(&[]);
        let data = extents.iter().map(|(_, extent)| (extent.offset, extent.offset + extent.length));
        let last = self.extents.is_some().then_some((self.size, self.size));
        let mut end_before = 0;
        data.chain(last).filter_map(move |(start, end)| {
            let hole = Piece { offset: end_before, length: start - end_before };
            end_before = end;
            (hole.length > 0).then_some(hole)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::Content;

    fn layout(size: u64, extents: Option<&[(u64, u64)]>) -> Layout {
        let extent = |&(offset, length): &(u64, u64)| Extent { offset, length };
        Layout::of(&FileNode {
            size,
            cut: 0,
            hard_link: None,
            extents: extents.map(|extents| extents.iter().map(extent).collect()),
            content: Content::Runs(Vec::new()),
        })
    }

    fn shown(pieces: impl Iterator<Item = Piece>) -> Vec<(u64, u64)> {
        pieces.map(|piece| (piece.offset, piece.length)).collect()
    }

    #[test]
    fn content_goes_around_holes() {
        let sparse = layout(100, Some(&[(10, 5), (40, 20)]));

        assert_eq!(shown(sparse.pieces(0, 25)), [(10, 5), (40, 20)]);
        assert_eq!(shown(sparse.pieces(3, 4)), [(13, 2), (40, 2)]);
        assert_eq!(shown(sparse.pieces(5, 1)), [(40, 1)]);
        assert_eq!(shown(sparse.pieces(30, 5)), []);
        assert_eq!(shown(sparse.holes()), [(0, 10), (15, 25), (60, 40)]);
        assert_eq!(sparse.data_end(), 60);
    }

    #[test]
    fn a_file_without_holes_is_one_stretch() {
        let plain = layout(100, None);

        assert_eq!(shown(plain.pieces(30, 20)), [(30, 20)]);
        assert_eq!(shown(plain.holes()), []);
        assert_eq!(plain.data_end(), 100);
    }

    #[test]
    fn a_file_of_one_hole_has_no_data() {
        let hole = layout(50, Some(&[]));

        assert_eq!(shown(hole.holes()), [(0, 50)]);
        assert_eq!(hole.data_end(), 0);
    }
}
