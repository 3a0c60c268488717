//! Far rows push as one from their centre: van der Maaten, "Accelerating t-SNE using tree-based algorithms" (2014), after
//! Barnes and Hut (1986).
//!
//! The quadtree or octree is a flat list in depth-first order over rows in Morton order, each node knowing where the next one
//! beside it is. Rows that follow each other are near each other, so a group of them walks the tree once, keeps what is far
//! enough from its bounding box, and sums that up with all lanes of the processor (as Barnes 1990 proposed for vector
//! machines). That looks at more nodes than each row would need, but never at fewer: it errs to the exact side.

use pulp::Arch;
use rayon::prelude::*;

use super::{
    Repulsion,
    kernel::{GROUP, Group, Source},
};
use crate::{LearningError, Watch};

/// Most rows of a leaf, unless they are in the same place.
const LEAF: usize = 8;

/// Rows that are given a key by one thread at once.
const BLOCK: usize = 4_096;

/// Sums up over a tree of the rows.
#[derive(Debug)]
pub(super) struct BarnesHut<const D: usize> {
    theta: f32,
    /// The Morton code and the number of each row, sorted.
    keys: Vec<(u64, u32)>,
    /// The rows in that order.
    points: Vec<Source<D>>,
    nodes: Vec<Node<D>>,
    forces: Vec<[f32; D]>,
    closeness: Vec<f64>,
}

/// A part of space that has rows in it.
#[derive(Debug, Clone, Copy)]
struct Node<const D: usize> {
    /// All its rows as one.
    whole: Source<D>,
    /// The square of how far from its centre it may be taken as a whole.
    reach: f32,
    /// The first node that is not inside of it.
    next: u32,
    /// Its rows, in Morton order.
    first: u32,
    last: u32,
}

/// The smallest box around some rows, its sides along the axes.
#[derive(Debug, Clone, Copy)]
struct Bounds<const D: usize> {
    low: [f32; D],
    high: [f32; D],
}

impl<const D: usize> BarnesHut<D> {
    pub(super) const fn new(theta: f64) -> Self {
        Self {
            theta: theta as f32,
            keys: Vec::new(),
            points: Vec::new(),
            nodes: Vec::new(),
            forces: Vec::new(),
            closeness: Vec::new(),
        }
    }

    /// Bytes that it takes.
    pub(super) const fn memory(rows: usize) -> u64 {
        let row = size_of::<(u64, u32)>() + size_of::<Source<D>>() + size_of::<[f32; D]>();
        // An inner node has at least two nodes in it; a vector grows to twice its length at most.
        (rows * (row + 2 * size_of::<Node<D>>())) as u64
    }

    fn plant(&mut self, rows: &[[f32; D]], watch: Watch<'_>) -> Result<(), LearningError> {
        let bounds = Bounds::around(rows.iter().copied());
        self.keys.resize(rows.len(), (0, 0));
        self.keys.par_chunks_mut(BLOCK).enumerate().for_each(|(block, keys)| {
            for (offset, key) in keys.iter_mut().enumerate() {
                let row = block * BLOCK + offset;
                *key = (bounds.morton(rows[row]), row as u32);
            }
        });
        watch.check()?;
        self.keys.par_sort_unstable();
        watch.check()?;
        self.points.clear();
        self.points.extend(self.keys.iter().map(|&(_, row)| Source { at: rows[row as usize], mass: 1.0 }));
        self.nodes.clear();
        self.grow(0, rows.len(), (BITS / D * D) as u32);
        watch.check()
    }

    /// Adds the node of some rows that agree in all but the last `bits` of their keys, and all nodes in it.
    fn grow(&mut self, first: usize, last: usize, mut bits: u32) -> Bounds<D> {
        // Where all are in the same part, that part is taken at once.
        let differing = self.keys[first].0 ^ self.keys[last - 1].0;
        while bits > 0 && differing >> (bits - D as u32) == 0 {
            bits -= D as u32;
        }
        let at = self.nodes.len();
        let whole = Source { at: [0.0; D], mass: 0.0 };
        self.nodes.push(Node { whole, reach: 0.0, next: 0, first: first as u32, last: last as u32 });
        let bounds = if last - first <= LEAF || bits == 0 {
            let points = &self.points[first..last];
            self.nodes[at].whole = Source::centre(points.iter().copied());
            Bounds::around(points.iter().map(|point| point.at))
        } else {
            self.grow_parts(at, first, last, bits - D as u32)
        };
        let side = bounds.side() / self.theta;
        self.nodes[at].reach = side * side;
        self.nodes[at].next = self.nodes.len() as u32;
        bounds
    }

    fn grow_parts(&mut self, at: usize, mut first: usize, last: usize, bits: u32) -> Bounds<D> {
        let (mut bounds, mut parts, mut count) = (Bounds::EMPTY, [self.nodes[at].whole; 8], 0);
        while first < last {
            let part = self.keys[first].0 >> bits;
            let length = self.keys[first..last].partition_point(|key| key.0 >> bits == part);
            let child = self.nodes.len();
            bounds = bounds.with(&self.grow(first, first + length, bits));
            parts[count] = self.nodes[child].whole;
            (first, count) = (first + length, count + 1);
        }
        self.nodes[at].whole = Source::centre(parts[..count].iter().copied());
        bounds
    }

    /// What pushes all rows in the box: nodes that are far enough from it, and the rows of leaves that are not.
    fn walk(&self, group: &Bounds<D>, sources: &mut Vec<Source<D>>) {
        sources.clear();
        let mut at = 0;
        while let Some(node) = self.nodes.get(at) {
            let inside = at + 1;
            at = node.next as usize;
            if node.reach <= group.squared_distance(node.whole.at) {
                sources.push(node.whole);
            } else if at == inside {
                sources.extend_from_slice(&self.points[node.first as usize..node.last as usize]);
            } else {
                at = inside;
            }
        }
    }
}

impl<const D: usize> Repulsion<D> for BarnesHut<D> {
    fn repel(&mut self, rows: &[[f32; D]], forces: &mut [[f32; D]], watch: Watch<'_>) -> Result<f64, LearningError> {
        self.plant(rows, watch)?;
        let arch = Arch::new();
        let (mut sorted, mut closeness) = (std::mem::take(&mut self.forces), std::mem::take(&mut self.closeness));
        sorted.resize(rows.len(), [0.0; D]);
        closeness.resize(rows.len().div_ceil(GROUP), 0.0);
        let groups = self.points.par_chunks(GROUP).zip(sorted.par_chunks_mut(GROUP)).zip(&mut closeness);
        groups.try_for_each_init(Vec::new, |sources, ((points, forces), closeness)| {
            watch.check()?;
            self.walk(&Bounds::around(points.iter().map(|point| point.at)), sources);
            let mut group = Group::of(points.iter().map(|point| point.at));
            group.add(arch, sources);
            *closeness = group.finish(forces);
            Ok(())
        })?;
        for (&(_, row), &force) in self.keys.iter().zip(&sorted) {
            forces[row as usize] = force;
        }
        // Each row has met itself.
        let sum = closeness.iter().sum::<f64>() - rows.len() as f64;
        (self.forces, self.closeness) = (sorted, closeness);
        Ok(sum)
    }
}

impl<const D: usize> Source<D> {
    /// All as one.
    fn centre(sources: impl Iterator<Item = Self> + Clone) -> Self {
        let mass = sources.clone().map(|source| source.mass).sum::<f32>();
        // From the first on, so that rows in the same place have exactly that one as their centre.
        let origin = sources.clone().next().map_or([0.0; D], |source| source.at);
        let moment =
            |axis: usize| sources.clone().map(|source| source.mass * (source.at[axis] - origin[axis])).sum::<f32>();
        Self { at: std::array::from_fn(|axis| origin[axis] + moment(axis) / mass), mass }
    }
}

/// Bits of a Morton code, all axes together.
const BITS: usize = 62;

impl<const D: usize> Bounds<D> {
    const EMPTY: Self = Self { low: [f32::INFINITY; D], high: [f32::NEG_INFINITY; D] };

    fn around(points: impl Iterator<Item = [f32; D]>) -> Self {
        points.fold(Self::EMPTY, |bounds, point| bounds.with(&Self { low: point, high: point }))
    }

    fn with(&self, other: &Self) -> Self {
        Self {
            low: std::array::from_fn(|axis| self.low[axis].min(other.low[axis])),
            high: std::array::from_fn(|axis| self.high[axis].max(other.high[axis])),
        }
    }

    /// The longest side.
    fn side(&self) -> f32 {
        (0..D).fold(0.0, |side: f32, axis| side.max(self.high[axis] - self.low[axis]))
    }

    /// From a point to the nearest point of the box.
    fn squared_distance(&self, point: [f32; D]) -> f32 {
        (0..D).fold(0.0, |sum, axis| {
            let apart = (self.low[axis] - point[axis]).max(point[axis] - self.high[axis]).max(0.0);
            sum + apart * apart
        })
    }

    /// The bits of the coordinates in turn, the highest first.
    fn morton(&self, point: [f32; D]) -> u64 {
        let bits = (BITS / D) as u32;
        let scale = ((1_u64 << bits) - 1) as f64 / f64::from(self.side()).max(f64::MIN_POSITIVE);
        (0..D).fold(0, |code, axis| {
            let cell = (f64::from(point[axis] - self.low[axis]) * scale) as u64;
            code | spread::<D>(cell.min((1 << bits) - 1)) << (D - 1 - axis)
        })
    }
}

/// Puts `D - 1` zeros between the bits.
const fn spread<const D: usize>(bits: u64) -> u64 {
    let mut x = bits;
    if D == 2 {
        x = (x | x << 16) & 0x0000_FFFF_0000_FFFF;
        x = (x | x << 8) & 0x00FF_00FF_00FF_00FF;
        x = (x | x << 4) & 0x0F0F_0F0F_0F0F_0F0F;
        x = (x | x << 2) & 0x3333_3333_3333_3333;
        (x | x << 1) & 0x5555_5555_5555_5555
    } else {
        x = (x | x << 32) & 0x001F_0000_0000_FFFF;
        x = (x | x << 16) & 0x001F_0000_FF00_00FF;
        x = (x | x << 8) & 0x100F_00F0_0F00_F00F;
        x = (x | x << 4) & 0x10C3_0C30_C30C_30C3;
        (x | x << 2) & 0x1249_2492_4924_9249
    }
}
