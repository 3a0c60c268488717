//! Clusters where rows lie densely: DBSCAN (Ester, Kriegel, Sander and Xu 1996), and the radius for it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use rand::seq::index;
use rayon::prelude::*;

use crate::boxes::{BOX, Boxes, QUERIES, Queries, any_below};
use crate::{LearningError, Matrix, Watch, stream};

/// The label of rows in no cluster.
const NOISE: i32 = -1;

/// The most rows whose distances make the curve of [`knee`].
const CURVE_ROWS: usize = 20_000;

/// The most points of the curve of [`Knee`].
const CURVE_POINTS: usize = 512;

/// Clusters of rows that lie densely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dbscan {
    /// The cluster of each row, in the order of their first core rows; -1 of rows in none. A row that is no core and near cores
    /// of several clusters is in the first, as in scikit-learn.
    pub labels: Vec<i32>,
    /// Which rows have enough rows near them.
    pub core: Vec<bool>,
}

/// Clusters of rows that are connected by cores no farther than `eps` from each other: a core has `min_samples` rows so near,
/// itself among them. The memory does not grow with how many are near.
///
/// # Errors
/// [`LearningError::Cancelled`]
pub fn fit(data: &Matrix, eps: f64, min_samples: usize, watch: Watch<'_>) -> Result<Dbscan, LearningError> {
    let boxes = Boxes::of(data, watch.part(0.0, 0.05))?;
    let search = Search::new(&boxes, eps);
    let core = search.cores(min_samples, watch.part(0.05, 0.5))?;
    let components = Components::new(boxes.rows());
    search.connect(&core, &components, watch.part(0.5, 0.9))?;
    let clusters = numbered(&boxes, &core, &components);
    let borders = search.borders(&core, &clusters, watch.part(0.9, 1.0))?;

    let mut fitted = Dbscan { labels: vec![NOISE; boxes.rows()], core: vec![false; boxes.rows()] };
    for (place, &row) in boxes.order().iter().enumerate() {
        fitted.labels[row as usize] = if core[place] { clusters[place] } else { borders[place] };
        fitted.core[row as usize] = core[place];
    }
    Ok(fitted)
}

/// Bytes that [`fit`] takes, its result among them.
pub fn memory(rows: usize, columns: usize) -> u64 {
    // Labels twice, clusters, components, cores twice; the neighbours of a box on each of many threads.
    Boxes::memory(rows, columns) + rows as u64 * (4 * 4 + 2) + (rows.div_ceil(BOX) * 12 * 64) as u64
}

/// The bend of the curve of distances to the neighbour that would make a row a core.
#[derive(Debug, Clone, PartialEq)]
pub struct Knee {
    /// The distance at the bend: rows to its right lie apart.
    pub eps: f64,
    /// At most 512 distances, ascending, at even steps of the curve.
    pub curve: Vec<f64>,
}

/// Where the ascending distances of rows to their `min_samples`th nearest, themselves the first, bend most: farthest below
/// the line from the first to the last (Satopaa, Albrecht, Irwin and Raghavan 2011, "Finding a Kneedle in a Haystack"). Of
/// more than 20,000 rows so many are drawn; their neighbours are sought among all.
///
/// # Errors
/// [`LearningError::TooFewRows`] below two rows; if all distances are 0, [`LearningError::NoVariance`] where all rows are the
/// same, else [`LearningError::NoRadius`]; [`LearningError::Cancelled`]
pub fn knee(data: &Matrix, min_samples: usize, seed: u64, watch: Watch<'_>) -> Result<Knee, LearningError> {
    if data.rows() < 2 {
        return Err(LearningError::TooFewRows { rows: data.rows(), least: 2, what: "a radius" });
    }
    let boxes = Boxes::of(data, watch.part(0.0, 0.1))?;
    let mut places: Vec<u32> = if data.rows() > CURVE_ROWS {
        index::sample(&mut stream(seed, 0), data.rows(), CURVE_ROWS).iter().map(|place| place as u32).collect()
    } else {
        (0..data.rows() as u32).collect()
    };
    places.sort_unstable();
    // The nearest of all is the row itself, whose distance tells nothing.
    let nth = min_samples.max(2);
    let mut curve = boxes.nth_distances(&places, nth, watch.part(0.1, 1.0))?;
    curve.sort_unstable_by(f64::total_cmp);
    let Some(eps) = bend(&curve) else {
        let is_same = (1..data.rows()).all(|row| data.row(row) == data.row(0));
        return Err(if is_same { LearningError::NoVariance } else { LearningError::NoRadius { rows: nth } });
    };
    let points = curve.len().min(CURVE_POINTS);
    let last = (points - 1).max(1);
    Ok(Knee { eps, curve: (0..points).map(|point| curve[point * (curve.len() - 1) / last]).collect() })
}

/// Bytes that [`knee`] takes, its result among them.
pub fn knee_memory(rows: usize, columns: usize, min_samples: usize) -> u64 {
    let searching = (QUERIES * min_samples.min(rows) * 8 + rows.div_ceil(BOX) * 12) * 64;
    Boxes::memory(rows, columns) + (rows.min(CURVE_ROWS) * 40 + searching) as u64
}

/// The value of an ascending curve that is farthest below the line from its first to its last; none if no value is above 0.
fn bend(curve: &[f64]) -> Option<f64> {
    let (first, last) = (*curve.first()?, *curve.last()?);
    let below = |at: usize| {
        let height = if last > first { (curve[at] - first) / (last - first) } else { 0.0 };
        at as f64 / (curve.len() - 1).max(1) as f64 - height
    };
    let at = (1..curve.len()).fold(0, |best, at| if below(at) > below(best) { at } else { best });
    // With many equal rows it may bend at 0, which is no radius.
    curve[at..].iter().copied().find(|&distance| distance > 0.0)
}

/// Rows that are near each other.
struct Search<'a> {
    boxes: &'a Boxes,
    /// The square of how near.
    square: f64,
    /// As [`Boxes::distances`]: nearer for sure, and not too far for sure.
    bounds: (f32, f32),
}

/// Places whose distances are taken at once.
struct Group {
    places: Vec<usize>,
    queries: Queries<QUERIES>,
}

/// What one thread needs again and again.
#[derive(Default)]
struct Scratch {
    gaps: Vec<f32>,
    others: Vec<u32>,
}

impl<'a> Search<'a> {
    fn new(boxes: &'a Boxes, eps: f64) -> Self {
        Self { boxes, square: eps * eps, bounds: boxes.bounds(eps) }
    }

    /// Does something with each box.
    fn each<T: Send>(
        &self,
        watch: Watch<'_>,
        of_box: impl Fn(usize, &mut Scratch) -> Result<T, LearningError> + Sync,
    ) -> Result<Vec<T>, LearningError> {
        let done = AtomicUsize::new(0);
        (0..self.boxes.len())
            .into_par_iter()
            .map_init(Scratch::default, |scratch, at| {
                let result = of_box(at, scratch)?;
                watch.step(done.fetch_add(1, Ordering::Relaxed) + 1, self.boxes.len())?;
                Ok(result)
            })
            .collect()
    }

    /// The boxes that may have rows near those of a box, the nearest first.
    fn near_boxes(&self, at: usize, scratch: &mut Scratch) {
        let Scratch { gaps, others, .. } = scratch;
        self.boxes.gaps_of_box(at, gaps);
        others.clear();
        others.extend((0..gaps.len() as u32).filter(|&other| gaps[other as usize] <= self.bounds.1));
        others.sort_unstable_by(|&a, &b| {
            gaps[a as usize]
                .total_cmp(&gaps[b as usize])
                .then(a.abs_diff(at as u32).cmp(&b.abs_diff(at as u32)))
                .then(a.cmp(&b))
        });
    }

    /// Calls back with each of some places and each place of another box near it, until that has had enough of the former.
    fn pairs(&self, group: &Group, other: usize, mut pair: impl FnMut(usize, usize) -> bool) {
        let (near, far) = self.bounds;
        let squares = self.boxes.distances(&group.queries, other);
        for (&query, squares) in group.places.iter().zip(&squares) {
            if !any_below(squares, far) {
                continue;
            }
            for (place, &square) in self.boxes.places(other).zip(squares) {
                let is_near = square < near || square <= far && self.boxes.squared(query, place) <= self.square;
                if is_near && !pair(query, place) {
                    break;
                }
            }
        }
    }

    fn groups(&self, places: &[usize]) -> Vec<Group> {
        let group = |places: &[usize]| Group { places: places.to_vec(), queries: self.boxes.queries(places) };
        places.chunks(QUERIES).map(group).collect()
    }

    /// Which places have enough near them. Where rows lie densely a few boxes tell.
    fn cores(&self, min_samples: usize, watch: Watch<'_>) -> Result<Vec<bool>, LearningError> {
        let counted = self.each(watch, |at, scratch| {
            self.near_boxes(at, scratch);
            let places = self.boxes.places(at);
            let mut counts = vec![0_usize; places.len()];
            let mut open: Vec<usize> = places.clone().collect();
            let mut groups = self.groups(&open);
            for (step, &other) in scratch.others.iter().enumerate() {
                if step % 64 == 0 {
                    watch.check()?;
                }
                for group in &groups {
                    self.pairs(group, other as usize, |place, _| {
                        counts[place - places.start] += 1;
                        counts[place - places.start] < min_samples
                    });
                }
                open.retain(|place| counts[place - places.start] < min_samples);
                if open.is_empty() {
                    break;
                }
                if open.len().div_ceil(QUERIES) < groups.len() {
                    groups = self.groups(&open);
                }
            }
            Ok(counts.into_iter().map(|count| count >= min_samples).collect::<Vec<_>>())
        })?;
        Ok(counted.concat())
    }

    /// Connects cores that are near each other. Which are connected in the end does not depend on the order.
    fn connect(&self, core: &[bool], components: &Components, watch: Watch<'_>) -> Result<(), LearningError> {
        let cores = |at: usize| self.boxes.places(at).filter(|&place| core[place]);
        // Boxes whose cores are all connected, so that one of them speaks for all.
        let whole: Vec<_> = (0..self.boxes.len()).map(|_| AtomicBool::new(false)).collect();
        let is_whole = |at: usize| {
            let mut roots = cores(at).map(|place| components.root(place as u32));
            let first = roots.next();
            let is_whole = whole[at].load(Ordering::Relaxed) || roots.all(|root| Some(root) == first);
            whole[at].store(is_whole, Ordering::Relaxed);
            is_whole
        };
        let join = |groups: &[Group], at: usize, other: usize| {
            let (Some(first), Some(second)) = (cores(at).next(), cores(other).next()) else { return };
            let are_joined = || components.root(first as u32) == components.root(second as u32);
            let are_whole = is_whole(at) && is_whole(other);
            for group in groups {
                if are_whole && are_joined() {
                    return;
                }
                self.pairs(group, other, |a, b| {
                    if core[b] {
                        components.join(a as u32, b as u32);
                    }
                    !(are_whole && core[b])
                });
            }
        };
        self.each(watch.part(0.0, 0.2), |at, _| {
            join(&self.groups(&cores(at).collect::<Vec<_>>()), at, at);
            Ok(())
        })?;
        self.each(watch.part(0.2, 1.0), |at, scratch| {
            let groups = self.groups(&cores(at).collect::<Vec<_>>());
            if groups.is_empty() {
                return Ok(());
            }
            self.near_boxes(at, scratch);
            for (step, &other) in scratch.others.iter().enumerate() {
                if step % 64 == 0 {
                    watch.check()?;
                }
                if (other as usize) < at {
                    join(&groups, at, other as usize);
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    /// The first of the clusters of which each place that is no core has a core near it.
    fn borders(&self, core: &[bool], clusters: &[i32], watch: Watch<'_>) -> Result<Vec<i32>, LearningError> {
        let found = self.each(watch, |at, scratch| {
            let places = self.boxes.places(at);
            let mut labels = vec![i32::MAX; places.len()];
            let open: Vec<usize> = places.clone().filter(|&place| !core[place]).collect();
            if !open.is_empty() {
                self.near_boxes(at, scratch);
                let groups = self.groups(&open);
                for (step, &other) in scratch.others.iter().enumerate() {
                    if step % 64 == 0 {
                        watch.check()?;
                    }
                    let other = other as usize;
                    if !self.boxes.places(other).any(|place| core[place]) {
                        continue;
                    }
                    for group in &groups {
                        self.pairs(group, other, |place, near| {
                            let label = &mut labels[place - places.start];
                            *label = if core[near] { clusters[near].min(*label) } else { *label };
                            true
                        });
                    }
                }
            }
            Ok(labels.into_iter().map(|label| if label == i32::MAX { NOISE } else { label }).collect::<Vec<_>>())
        })?;
        Ok(found.concat())
    }
}

/// The cluster of each core by place, numbered by their first rows.
fn numbered(boxes: &Boxes, core: &[bool], components: &Components) -> Vec<i32> {
    let mut places = vec![0_u32; boxes.rows()];
    for (place, &row) in boxes.order().iter().enumerate() {
        places[row as usize] = place as u32;
    }
    let mut numbers = vec![NOISE; boxes.rows()];
    let mut clusters = 0;
    for place in places.into_iter().filter(|&place| core[place as usize]) {
        let root = components.root(place) as usize;
        if numbers[root] == NOISE {
            numbers[root] = clusters;
            clusters += 1;
        }
        numbers[place as usize] = numbers[root];
    }
    numbers
}

/// What is connected, found out by many threads at once (Anderson and Woll 1991). Each component is called by its least member.
struct Components {
    parents: Vec<AtomicU32>,
}

impl Components {
    fn new(members: usize) -> Self {
        Self { parents: (0..members as u32).map(AtomicU32::new).collect() }
    }

    fn parent(&self, member: u32) -> u32 {
        self.parents[member as usize].load(Ordering::Relaxed)
    }

    fn root(&self, mut member: u32) -> u32 {
        loop {
            let parent = self.parent(member);
            if parent == member {
                return member;
            }
            // Halves the way. A parent is only ever replaced by one of its own ancestors, so a race loses nothing.
            let grandparent = self.parent(parent);
            self.parents[member as usize].store(grandparent, Ordering::Relaxed);
            member = grandparent;
        }
    }

    fn join(&self, a: u32, b: u32) {
        loop {
            let (a, b) = (self.root(a), self.root(b));
            if a == b {
                return;
            }
            let (low, high) = (a.min(b), a.max(b));
            let parent = &self.parents[high as usize];
            if parent.compare_exchange(high, low, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boxes::squared;
    use crate::boxes::tests::{odd_rows, on_threads, rows, stops};

    /// The algorithm as scikit-learn does it, with all neighbours.
    fn plain(data: &Matrix, eps: f64, min_samples: usize) -> Dbscan {
        let rows = 0..data.rows();
        let near = |row: usize| rows.clone().filter(move |&other| squared(data.row(row), data.row(other)) <= eps * eps);
        let core: Vec<bool> = rows.clone().map(|row| near(row).count() >= min_samples).collect();
        let mut labels = vec![NOISE; data.rows()];
        let mut clusters = 0;
        for row in rows.clone() {
            if labels[row] != NOISE || !core[row] {
                continue;
            }
            let mut open = vec![row];
            while let Some(row) = open.pop() {
                if labels[row] == NOISE {
                    labels[row] = clusters;
                    if core[row] {
                        open.extend(near(row));
                    }
                }
            }
            clusters += 1;
        }
        Dbscan { labels, core }
    }

    #[test]
    fn labels_are_those_of_the_textbook() {
        for data in [rows(20, 2, 1), rows(700, 2, 2), rows(500, 3, 3), rows(400, 8, 4)] {
            // The values are multiples of a half, so that many rows are exactly so far from each other.
            for eps in [0.1, 0.5, 1.0, 1.5, 2.5, 4.0, 9.0, 1e200] {
                for min_samples in [0, 1, 2, 5, 30, 1_000] {
                    let found = fit(&data, eps, min_samples, Watch::nobody()).unwrap();
                    assert_eq!(found, plain(&data, eps, min_samples), "{eps} {min_samples}");
                }
            }
        }
    }

    #[test]
    fn odd_rows_are_no_trouble() {
        for data in odd_rows() {
            for eps in [1e-300, 1.0, 1e149, f64::MAX] {
                assert_eq!(fit(&data, eps, 2, Watch::nobody()).unwrap(), plain(&data, eps, 2));
            }
            match knee(&data, 5, 1, Watch::nobody()) {
                Ok(knee) => assert!(knee.eps > 0.0 && knee.curve.is_sorted() && knee.curve.len() <= data.rows()),
                Err(LearningError::TooFewRows { rows, .. }) => assert!(rows < 2),
                // The squares of very small differences vanish.
                Err(error) => assert!(matches!(error, LearningError::NoVariance | LearningError::NoRadius { rows: 5 })),
            }
        }
    }

    #[test]
    fn rows_with_many_twins_have_clusters_but_no_knee() {
        let data = Matrix::new(1, (0..100).map(|row| f64::from(1 + row % 4)).collect()).unwrap();
        for min_samples in [1_usize, 5, 25] {
            let error = LearningError::NoRadius { rows: min_samples.max(2) };
            assert_eq!(knee(&data, min_samples, 1, Watch::nobody()), Err(error));
            let labels: Vec<i32> = (0..100).map(|row| row % 4).collect();
            assert_eq!(fit(&data, 0.5, min_samples, Watch::nobody()).unwrap().labels, labels);
        }
        assert_eq!(knee(&data, 26, 1, Watch::nobody()).unwrap().eps, 1.0);
        let same = Matrix::new(1, vec![1.0; 100]).unwrap();
        assert_eq!(knee(&same, 5, 1, Watch::nobody()), Err(LearningError::NoVariance));
    }

    #[test]
    fn threads_make_no_difference() {
        let data = rows(5_000, 3, 8);
        let labels = on_threads(|| fit(&data, 1.0, 5, Watch::nobody()).unwrap()).labels;
        assert!(labels.iter().max() > Some(&2));
        on_threads(|| knee(&data, 5, 42, Watch::nobody()).unwrap());
    }

    #[test]
    fn it_stops_when_told_to() {
        let data = rows(3_000, 3, 8);
        stops(|watch| fit(&data, 1.0, 5, watch));
        stops(|watch| knee(&data, 5, 42, watch));
    }

    #[test]
    fn the_bend_is_where_the_curve_is_farthest_below_its_chord() {
        assert_eq!(bend(&[1.0, 1.1, 1.2, 1.3, 8.0, 20.0]), Some(1.3));
        assert_eq!(bend(&[0.0, 0.0, 0.0, 0.0, 2.0]), Some(2.0));
        assert_eq!(bend(&[3.0, 3.0]), Some(3.0));
        assert_eq!(bend(&[0.0, 0.0]), None);
        assert_eq!(bend(&[]), None);
    }

    #[test]
    fn the_curve_of_many_rows_is_drawn_from_them() {
        let data = rows(21_000, 2, 3);
        let (all, again) = (knee(&data, 4, 1, Watch::nobody()).unwrap(), knee(&data, 4, 1, Watch::nobody()).unwrap());
        assert_eq!(all, again);
        assert_eq!(all.curve.len(), CURVE_POINTS);
    }
}
