//! The shortest tree that connects all rows, and the order in which its edges join them.

use crate::boxes::{BOX, Boxes, Queries};
use crate::{LearningError, Watch};

/// Boxes whose nearest rows are compared at once.
const SOME: usize = 32;

/// Farther than all rows.
const NOTHING: (f64, u32, u32) = (f64::INFINITY, u32::MAX, u32::MAX);

/// Two rows, and how far they are from each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Edge {
    pub(crate) a: u32,
    pub(crate) b: u32,
    pub(crate) length: f64,
}

/// Two clusters become one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Merge {
    /// The one: a row, or, from the number of rows on, what the merge of that number less made.
    pub a: u32,
    /// The other.
    pub b: u32,
    /// How far they were from each other.
    pub distance: f64,
    /// How many rows they have together.
    pub size: u32,
}

/// The minimum spanning tree (Prim 1957) of rows, a distance being no less than the core distances of its ends if there are
/// any, which are given by place. Its edges in the order in which they are found, from row 0 on.
///
/// Of rows that are equally far from the tree the first is taken, and connected to what was in the tree first: as in
/// scikit-learn, whose distances have the same bits.
///
/// # Errors
/// [`LearningError::Cancelled`]
pub(crate) fn spanning_tree(boxes: &Boxes, core: Option<&[f64]>, watch: Watch<'_>) -> Result<Vec<Edge>, LearningError> {
    let mut edges = Vec::with_capacity(boxes.rows().saturating_sub(1));
    let Some(mut place) = boxes.order().iter().position(|&row| row == 0) else { return Ok(edges) };
    let mut tree = Growing::new(boxes, core);
    let rhythm = (4_096 / boxes.len()).clamp(1, 64);
    while edges.len() + 1 < boxes.rows() {
        if edges.len() % rhythm == 0 {
            watch.step(edges.len(), boxes.rows())?;
        }
        tree.take(place);
        tree.shorten(place);
        let next = tree.nearest();
        let row = |place: usize| boxes.order()[place];
        edges.push(Edge { a: row(tree.sources[next] as usize), b: row(next), length: tree.keys[next] });
        place = next;
    }
    Ok(edges)
}

/// Bytes that [`spanning_tree`] takes beside the boxes, its edges among them.
pub(crate) const fn memory(rows: usize) -> u64 {
    (rows * (size_of::<Edge>() + size_of::<f64>() + size_of::<u32>() + size_of::<f32>() + 1)
        + rows.div_ceil(BOX) * (3 * size_of::<(f64, u32, u32)>() + size_of::<f32>())) as u64
}

/// A tree that grows by Prim's algorithm. Vectors by place; what is in the tree is infinitely far from it.
struct Growing<'a> {
    boxes: &'a Boxes,
    core: Option<&'a [f64]>,
    /// How far each place is from the tree.
    keys: Vec<f64>,
    /// What in the tree is so far from it.
    sources: Vec<u32>,
    /// As [`Boxes::distances`], a row farther than this from a place does not shorten its way; below zero if none does.
    limits: Vec<[f32; BOX]>,
    /// Of each box the greatest of the limits, and the longest way to the tree of those that have one.
    reach: Vec<(f32, f64)>,
    /// Of each box what is nearest to the tree: how far it is; its row, which decides among equals; and its place.
    nearest: Vec<(f64, u32, u32)>,
    /// The least of each [`SOME`] of those.
    nearest_of_some: Vec<(f64, u32, u32)>,
    outside: Vec<bool>,
    gaps: Vec<f32>,
}

impl<'a> Growing<'a> {
    fn new(boxes: &'a Boxes, core: Option<&'a [f64]>) -> Self {
        let rows = boxes.rows();
        let mut limits = vec![[-1.0; BOX]; boxes.len()];
        limits.as_flattened_mut()[..rows].fill(f32::INFINITY);
        Self {
            boxes,
            core,
            keys: vec![f64::INFINITY; rows],
            sources: vec![0; rows],
            limits,
            reach: vec![(f32::INFINITY, f64::INFINITY); boxes.len()],
            nearest: vec![NOTHING; boxes.len()],
            nearest_of_some: vec![NOTHING; boxes.len().div_ceil(SOME)],
            outside: vec![true; rows],
            gaps: Vec::new(),
        }
    }

    /// What is to be known of a box in which something changed.
    fn look_at(&mut self, at: usize) {
        let (mut limit, mut longest, mut nearest) = (-1.0_f32, -1.0_f64, NOTHING);
        for place in self.boxes.places(at).filter(|&place| self.outside[place]) {
            nearest = least(nearest, (self.keys[place], self.boxes.order()[place], place as u32));
            if self.limits[at][place % BOX] >= 0.0 {
                (limit, longest) = (limit.max(self.limits[at][place % BOX]), longest.max(self.keys[place]));
            }
        }
        self.reach[at] = (limit, longest);
        self.nearest[at] = nearest;
        let some = self.nearest[at / SOME * SOME..].iter().take(SOME);
        self.nearest_of_some[at / SOME] = some.copied().fold(NOTHING, least);
    }

    fn core(&self, place: usize) -> f64 {
        self.core.map_or(0.0, |core| core[place])
    }

    fn take(&mut self, place: usize) {
        self.outside[place] = false;
        self.limits[place / BOX][place % BOX] = -1.0;
        self.look_at(place / BOX);
    }

    /// Ways to the tree that are shorter by a place that is new in it.
    fn shorten(&mut self, place: usize) {
        let mut gaps = std::mem::take(&mut self.gaps);
        self.boxes.gaps_of_place(place, &mut gaps);
        let core = self.core(place);
        let queries = self.boxes.queries::<1>(&[place]);
        for (at, &gap) in gaps.iter().enumerate() {
            let (limit, longest) = self.reach[at];
            if gap <= limit && core < longest {
                self.shorten_to(place, &queries, at);
            }
        }
        self.gaps = gaps;
    }

    fn shorten_to(&mut self, place: usize, queries: &Queries<1>, at: usize) {
        let [squares] = self.boxes.distances(queries, at);
        let places = self.boxes.places(at);
        // All are looked at, so that it can be done with vectors.
        if !squares.iter().zip(&self.limits[at]).fold(false, |any, (square, limit)| any | (square <= limit)) {
            return;
        }
        let mut is_shorter = false;
        for (other, square) in places.zip(squares) {
            is_shorter |= square <= self.limits[at][other % BOX] && self.shorten_one(place, other);
        }
        if is_shorter {
            self.look_at(at);
        }
    }

    fn shorten_one(&mut self, place: usize, other: usize) -> bool {
        let core = self.core(other);
        let length = self.boxes.squared(place, other).sqrt().max(self.core(place)).max(core);
        if length >= self.keys[other] {
            return false;
        }
        self.keys[other] = length;
        self.sources[other] = place as u32;
        // Nothing is shorter than its own core distance.
        self.limits[other / BOX][other % BOX] = if length > core { self.boxes.bounds(length).1 } else { -1.0 };
        true
    }

    fn nearest(&self) -> usize {
        self.nearest_of_some.iter().copied().fold(NOTHING, least).2 as usize
    }
}

fn least(a: (f64, u32, u32), b: (f64, u32, u32)) -> (f64, u32, u32) {
    if (b.0, b.1) < (a.0, a.1) { b } else { a }
}

/// Which clusters the edges join, the shortest first; of equal ones the first.
pub(crate) fn merges(mut edges: Vec<Edge>) -> Vec<Merge> {
    edges.sort_by(|a, b| a.length.total_cmp(&b.length));
    let rows = edges.len() + 1;
    let mut joined = Joined::new(2 * rows - 1);
    let mut sizes = vec![1_u32; rows];
    let mut merges = Vec::with_capacity(edges.len());
    for (merge, edge) in edges.iter().enumerate() {
        let (a, b) = (joined.root(edge.a), joined.root(edge.b));
        let (a, b) = (a.min(b), a.max(b));
        let size = sizes[a as usize] + sizes[b as usize];
        sizes.push(size);
        joined.join(a, b, (rows + merge) as u32);
        merges.push(Merge { a, b, distance: edge.length, size });
    }
    merges
}

/// Which clusters lie in which (Tarjan 1975), with ways that are halved whenever they are gone.
struct Joined {
    parents: Vec<u32>,
}

impl Joined {
    fn new(clusters: usize) -> Self {
        Self { parents: (0..clusters as u32).collect() }
    }

    fn root(&mut self, mut cluster: u32) -> u32 {
        while self.parents[cluster as usize] != cluster {
            let parent = self.parents[cluster as usize];
            self.parents[cluster as usize] = self.parents[parent as usize];
            cluster = self.parents[cluster as usize];
        }
        cluster
    }

    fn join(&mut self, a: u32, b: u32, into: u32) {
        self.parents[a as usize] = into;
        self.parents[b as usize] = into;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boxes::squared;
    use crate::boxes::tests::{odd_rows, rows};

    /// The textbook's, with all distances.
    fn plain(data: &crate::Matrix, core: &[f64]) -> Vec<Edge> {
        let mut nearest = vec![(f64::INFINITY, 0); data.rows()];
        let mut outside: Vec<u32> = (1..data.rows() as u32).collect();
        let mut last = 0;
        let mut edges = Vec::new();
        while !outside.is_empty() {
            for &row in &outside {
                let cores = core[row as usize].max(core[last as usize]);
                let length = squared(data.row(row as usize), data.row(last as usize)).sqrt().max(cores);
                if length < nearest[row as usize].0 {
                    nearest[row as usize] = (length, last);
                }
            }
            let at = (0..outside.len())
                .min_by(|&a, &b| nearest[outside[a] as usize].0.total_cmp(&nearest[outside[b] as usize].0));
            last = outside.remove(at.unwrap());
            let (length, from) = nearest[last as usize];
            edges.push(Edge { a: from, b: last, length });
        }
        edges
    }

    #[test]
    fn edges_are_those_of_the_textbook() {
        for data in odd_rows().into_iter().chain([rows(33, 2, 1), rows(400, 3, 2), rows(300, 9, 3)]) {
            let boxes = Boxes::of(&data, Watch::nobody()).unwrap();
            assert_eq!(spanning_tree(&boxes, None, Watch::nobody()).unwrap(), plain(&data, &vec![0.0; data.rows()]));
            let places: Vec<u32> = (0..data.rows() as u32).collect();
            let core = boxes.nth_distances(&places, 5, Watch::nobody()).unwrap();
            let mut of_rows = vec![0.0; data.rows()];
            boxes.order().iter().zip(&core).for_each(|(&row, core)| of_rows[row as usize] = *core);
            assert_eq!(spanning_tree(&boxes, Some(&core), Watch::nobody()).unwrap(), plain(&data, &of_rows));
        }
    }

    #[test]
    fn the_shortest_edges_join_first() {
        let edge = |a, b, length| Edge { a, b, length };
        let made = merges(vec![edge(0, 1, 3.0), edge(1, 2, 1.0), edge(2, 3, 1.0)]);
        let merge = |a, b, distance, size| Merge { a, b, distance, size };
        assert_eq!(made, [merge(1, 2, 1.0, 2), merge(3, 4, 1.0, 3), merge(0, 5, 3.0, 4)]);
    }
}
