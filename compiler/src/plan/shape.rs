//! One step's extents of a type: the dims of every block, and where each block starts in dense storage.

use crate::ir::graph::{CountKind, Extent, Outer, SegmentData, Segments, SetId, Tables};

/// Extents of all blocks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shape {
    /// Number of blocks.
    pub blocks: usize,
    /// Number of dims.
    pub rank: usize,
    /// True if all blocks have the same dims by their type.
    pub uniform: bool,
    dims: Vec<usize>,
    starts: Vec<usize>,
}

impl Shape {
    /// The extents of a type in a step.
    pub fn new(tables: &Tables, segments: &Segments, outer: Outer, extents: &[Extent]) -> Shape {
        let blocks = segments.blocks(tables, outer);
        let mut shape = Shape {
            blocks,
            rank: extents.len(),
            uniform: extents.iter().all(|e| matches!(e, Extent::Static(_))),
            dims: Vec::with_capacity(blocks * extents.len()),
            starts: Vec::with_capacity(blocks + 1),
        };
        let mut start = 0;
        for block in 0..blocks {
            shape.starts.push(start);
            let mut size = 1;
            for extent in extents {
                let n = segments.extent(tables, *extent, block);
                shape.dims.push(n);
                size *= n;
            }
            start += size;
        }
        shape.starts.push(start);
        shape
    }

    /// Dims of a block.
    pub fn dims(&self, block: usize) -> &[usize] {
        &self.dims[block * self.rank..(block + 1) * self.rank]
    }

    /// Where a block starts.
    pub fn start(&self, block: usize) -> usize {
        self.starts[block]
    }

    /// Elements of a block.
    pub fn size(&self, block: usize) -> usize {
        self.starts[block + 1] - self.starts[block]
    }

    /// Elements of all blocks.
    pub fn total(&self) -> usize {
        self.starts[self.blocks]
    }

    /// The last dim of every block, which must be static; 1 if there is none.
    pub fn width(&self) -> usize {
        if self.rank == 0 || self.blocks == 0 { 1 } else { self.dims[self.rank - 1] }
    }
}

/// The counts of a step of so many clips where every count is as large as it can be; no index sets.
pub fn bounds(tables: &Tables, clips: usize) -> Segments {
    let bound = |kind: CountKind| tables.counts.iter().find(|c| c.kind == kind).map_or(0, |c| c.bound);
    let sets = tables.sets.iter().enumerate().map(|(set, masks)| {
        let (set, blocks) = (SetId(set as u32), clips * masks.masks.len());
        SegmentData {
            context_count: vec![bound(CountKind::Context(set)); blocks],
            target_count: vec![bound(CountKind::Target(set)); blocks],
            ..SegmentData::default()
        }
    });
    Segments { clips, sets: sets.collect() }
}

/// `[1536, 384]` for one block, `16 x [196, 384]` for several, `16 x [40..57, 384]` if they differ.
impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.blocks != 1 {
            write!(f, "{} x ", self.blocks)?;
        }
        let dim = |axis: usize| {
            let sizes = || (0..self.blocks).map(|block| self.dims(block)[axis]);
            match (sizes().min().unwrap_or(0), sizes().max().unwrap_or(0)) {
                (least, most) if least == most => least.to_string(),
                (least, most) => format!("{least}..{most}"),
            }
        };
        write!(f, "[{}]", (0..self.rank).map(dim).collect::<Vec<_>>().join(", "))
    }
}

/// The block of an outer `to` that block `block` of the larger (or equal) outer `from` belongs to.
pub fn outer_block(from: Outer, to: Outer, block: usize, clips: usize) -> usize {
    match (from, to) {
        (_, Outer::One) => 0,
        (Outer::Segments(_), Outer::Clips) => block % clips,
        (Outer::One | Outer::Clips, Outer::Clips | Outer::Segments(_)) | (Outer::Segments(_), Outer::Segments(_)) => {
            block
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_shown_with_the_extents_of_the_step() {
        let shape =
            |blocks, rank, dims: &[usize]| Shape { blocks, rank, dims: dims.to_vec(), ..Shape::default() }.to_string();
        assert_eq!(shape(1, 2, &[1536, 384]), "[1536, 384]");
        assert_eq!(shape(2, 2, &[40, 384, 57, 384]), "2 x [40..57, 384]");
        assert_eq!(shape(1, 0, &[]), "[]");
        assert_eq!(shape(0, 1, &[]), "0 x [0]");
    }
}
