//! The shortest tree that connects all rows, and the order in which its edges join them.

use crate::boxes::{BOX, Boxes};
use crate::{LearningError, Watch};

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
    (rows * (size_of::<Edge>() + size_of::<f64>() + size_of::<u32>() + size_of::<f32>())
        + rows.div_ceil(BOX) * (size_of::<Front>() + size_of::<f32>() + BOX * size_of::<f32>())) as u64
}

/// A tree that grows by Prim's algorithm. Vectors by place; what is in the tree is infinitely far from it.
struct Growing<'a> {
    boxes: &'a Boxes,
    core: Option<&'a [f64]>,
    /// How far each place is from the tree.
    keys: Vec<f64>,
    /// What in the tree is so far from it.
    sources: Vec<u32>,
    /// In units of the tiles, a row farther than this from a place does not shorten its way; below zero if none does.
    limits: Vec<f32>,
    fronts: Vec<Front>,
    outside: Vec<bool>,
    gaps: Vec<f32>,
    squares: Vec<f32>,
}

/// What is to be known of the places of a box that are not in the tree.
#[derive(Clone, Copy)]
struct Front {
    /// The nearest to the tree; its row decides among equals.
    nearest: (f64, u32),
    place: u32,
    /// The greatest of their limits.
    limit: f32,
    /// The longest way to them.
    longest: f64,
}

impl<'a> Growing<'a> {
    fn new(boxes: &'a Boxes, core: Option<&'a [f64]>) -> Self {
        let rows = boxes.rows();
        let mut growing = Self {
            boxes,
            core,
            keys: vec![f64::INFINITY; rows],
            sources: vec![0; rows],
            limits: vec![f32::INFINITY; rows],
            fronts: Vec::new(),
            outside: vec![true; rows],
            gaps: Vec::new(),
            squares: Vec::new(),
        };
        growing.fronts = (0..boxes.len()).map(|at| growing.front(at)).collect();
        growing
    }

    fn front(&self, at: usize) -> Front {
        let none = Front { nearest: (f64::INFINITY, u32::MAX), place: u32::MAX, limit: -1.0, longest: -1.0 };
        self.boxes.places(at).filter(|&place| self.outside[place]).fold(none, |mut front, place| {
            let here = (self.keys[place], self.boxes.order()[place]);
            if here < front.nearest {
                (front.nearest, front.place) = (here, place as u32);
            }
            front.limit = front.limit.max(self.limits[place]);
            if self.limits[place] >= 0.0 {
                front.longest = front.longest.max(self.keys[place]);
            }
            front
        })
    }

    fn core(&self, place: usize) -> f64 {
        self.core.map_or(0.0, |core| core[place])
    }

    fn take(&mut self, place: usize) {
        self.outside[place] = false;
        self.limits[place] = -1.0;
        self.fronts[place / BOX] = self.front(place / BOX);
    }

    /// Ways to the tree that are shorter by a place that is new in it.
    fn shorten(&mut self, place: usize) {
        let mut gaps = std::mem::take(&mut self.gaps);
        self.boxes.gaps_of_place(place, &mut gaps);
        let core = self.core(place);
        let is_near = |front: &Front, gap: f32| gap <= front.limit && core < front.longest;
        let mut at = 0;
        while at < gaps.len() {
            let near = (at..gaps.len()).take_while(|&at| is_near(&self.fronts[at], gaps[at])).count();
            if near > 0 {
                self.shorten_to(place, at..at + near);
            }
            at += near + 1;
        }
        self.gaps = gaps;
    }

    fn shorten_to(&mut self, place: usize, boxes: std::ops::Range<usize>) {
        let mut squares = std::mem::take(&mut self.squares);
        self.boxes.distances(&[place], boxes.clone(), &mut squares);
        for (at, squares) in boxes.zip(squares.chunks_exact(BOX)) {
            let places = self.boxes.places(at);
            let limits = &self.limits[places.clone()];
            if !squares.iter().zip(limits).any(|(square, limit)| square <= limit) {
                continue;
            }
            let mut is_shorter = false;
            for (other, square) in places.zip(squares) {
                is_shorter |= *square <= self.limits[other] && self.shorten_one(place, other);
            }
            if is_shorter {
                self.fronts[at] = self.front(at);
            }
        }
        self.squares = squares;
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
        self.limits[other] = if length > core { self.boxes.bounds(length).1 } else { -1.0 };
        true
    }

    fn nearest(&self) -> usize {
        let nearest = |best: &'_ Front, front: &'_ Front| if front.nearest < best.nearest { *front } else { *best };
        let first = self.fronts[0];
        self.fronts.iter().fold(first, |best, front| nearest(&best, front)).place as usize
    }
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
