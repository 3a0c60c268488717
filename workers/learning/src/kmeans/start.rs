//! One start: rows go to the nearest centres, and centres to the means of their rows.

use pulp::Arch;
use rayon::prelude::*;

use super::{
    PART, add, check,
    tiles::{NONE, ROWS, Tiles},
};
use crate::{LearningError, Matrix, Watch, lanes, metrics::squared_distance, parts::by_parts};

/// Where a start stands.
pub(super) struct State {
    pub(super) centres: Matrix,
    /// The sum of the rows of each cluster.
    sums: Matrix,
    sizes: Vec<usize>,
    pub(super) labels: Vec<u32>,
    /// No less than the distance to the own centre.
    upper: Vec<f64>,
    /// No more than the distance to any other centre.
    lower: Vec<f64>,
    /// How far each centre moved since the bounds were right.
    moves: Vec<f64>,
}

/// What one task changes.
struct Task<'a> {
    from: usize,
    labels: &'a mut [u32],
    upper: &'a mut [f64],
    lower: &'a mut [f64],
}

impl State {
    pub(super) fn new(rows: usize, centres: Matrix) -> Self {
        Self {
            sums: Matrix::zeros(centres.rows(), centres.columns()),
            sizes: vec![0; centres.rows()],
            labels: vec![NONE; rows],
            upper: vec![f64::INFINITY; rows],
            lower: vec![0.0; rows],
            moves: vec![0.0; centres.rows()],
            centres,
        }
    }

    /// Gives each row to the nearest centre. Gives the rows that changed, with their labels before, for each part.
    pub(super) fn assign(&mut self, data: &Matrix, watch: Watch<'_>) -> Result<Vec<Vec<(u32, u32)>>, LearningError> {
        let centres: Vec<&[f64]> = (0..self.centres.rows()).map(|centre| self.centres.row(centre)).collect();
        let tiles = Tiles::of(data.columns(), &centres);
        // Within half the distance to the nearest other centre, no other centre is nearer.
        let safe = by_parts(centres.len(), 1, |centre, _| {
            watch.check()?;
            let others = centres.iter().enumerate().filter(|(other, _)| *other != centre);
            Ok(others.map(|(_, other)| squared_distance(centres[centre], other)).fold(f64::INFINITY, f64::min).sqrt()
                / 2.0)
        })?;
        // The farthest move, whose it is, and the farthest of the others.
        let (mut farthest, mut second) = ((0, 0.0), 0.0);
        for (centre, moved) in self.moves.iter().enumerate() {
            if *moved > farthest.1 {
                (second, farthest) = (farthest.1, (centre, *moved));
            } else if *moved > second {
                second = *moved;
            }
        }
        let (labels, upper, lower) =
            (self.labels.par_chunks_mut(PART), self.upper.par_chunks_mut(PART), self.lower.par_chunks_mut(PART));
        let moves = &self.moves;
        let tasks = labels.zip(upper).zip(lower).enumerate().map(|(part, ((labels, upper), lower))| {
            let mut task = Task { from: part * PART, labels, upper, lower };
            Arch::new().dispatch(
                #[inline(always)]
                || {
                    let (mut changed, mut doubtful) = (Vec::new(), Vec::with_capacity(ROWS));
                    for at in 0..task.labels.len() {
                        check(at, watch)?;
                        let label = task.labels[at];
                        if label != NONE {
                            let own = label as usize;
                            task.upper[at] += moves[own];
                            task.lower[at] -= if own == farthest.0 { second } else { farthest.1 };
                            let bound = safe[own].max(task.lower[at]);
                            if task.upper[at] <= bound {
                                continue;
                            }
                            task.upper[at] = lanes::squared_distance(data.row(task.from + at), centres[own]).sqrt();
                            if task.upper[at] <= bound {
                                continue;
                            }
                        }
                        doubtful.push(at);
                        if doubtful.len() == ROWS {
                            task.look(&doubtful, data, &tiles, &mut changed);
                            doubtful.clear();
                        }
                    }
                    task.look(&doubtful, data, &tiles, &mut changed);
                    Ok(changed)
                },
            )
        });
        tasks.collect()
    }

    /// Moves centres to the means of their rows. Gives the sum of the squared moves.
    pub(super) fn update(
        &mut self,
        data: &Matrix,
        changed: &[Vec<(u32, u32)>],
        watch: Watch<'_>,
    ) -> Result<f64, LearningError> {
        for (at, (row, before)) in changed.iter().flatten().enumerate() {
            check(at, watch)?;
            self.relabel(data, *row as usize, *before);
        }
        for cluster in 0..self.sizes.len() {
            if self.sizes[cluster] == 0 {
                self.refill(data, cluster, watch)?;
            }
        }
        let mut moved = 0.0;
        for cluster in 0..self.sizes.len() {
            let size = self.sizes[cluster];
            if size == 0 {
                self.moves[cluster] = 0.0;
                continue;
            }
            let mut squared = 0.0;
            for (centre, sum) in self.centres.row_mut(cluster).iter_mut().zip(self.sums.row(cluster)) {
                let mean = sum / size as f64;
                squared += (*centre - mean).powi(2);
                *centre = mean;
            }
            self.moves[cluster] = squared.sqrt();
            moved += squared;
        }
        Ok(moved)
    }

    /// Takes a row out of the cluster that it was in, and adds it to the one that it is in.
    fn relabel(&mut self, data: &Matrix, row: usize, before: u32) {
        let now = self.labels[row] as usize;
        add(self.sums.row_mut(now), data.row(row), 1.0);
        self.sizes[now] += 1;
        if before != NONE {
            add(self.sums.row_mut(before as usize), data.row(row), -1.0);
            self.sizes[before as usize] -= 1;
        }
    }

    /// Gives an empty cluster the row that is farthest from its centre and not alone; none, if all lie on their centres.
    fn refill(&mut self, data: &Matrix, cluster: usize, watch: Watch<'_>) -> Result<(), LearningError> {
        let farthest = by_parts(data.rows(), PART, |from, to| {
            let mut farthest = (0.0, 0);
            for row in from..to {
                check(row, watch)?;
                let own = self.labels[row] as usize;
                let distance = squared_distance(data.row(row), self.centres.row(own));
                if distance > farthest.0 && self.sizes[own] > 1 {
                    farthest = (distance, row);
                }
            }
            Ok(farthest)
        })?;
        let (distance, row) =
            farthest.into_iter().fold((0.0, 0), |most, next| if next.0 > most.0 { next } else { most });
        if distance > 0.0 {
            let before = std::mem::replace(&mut self.labels[row], cluster as u32);
            self.relabel(data, row, before);
            // Its bounds are those of another cluster: they say nothing.
            (self.upper[row], self.lower[row]) = (f64::INFINITY, 0.0);
        }
        Ok(())
    }

    /// The sum of the squared distances to the centres.
    pub(super) fn inertia(&self, data: &Matrix, watch: Watch<'_>) -> Result<f64, LearningError> {
        let parts = by_parts(data.rows(), PART, |from, to| {
            Arch::new().dispatch(|| {
                let mut sum = 0.0;
                for row in from..to {
                    check(row, watch)?;
                    sum += lanes::squared_distance(data.row(row), self.centres.row(self.labels[row] as usize));
                }
                Ok(sum)
            })
        })?;
        Ok(parts.iter().sum())
    }
}

impl Task<'_> {
    /// Finds the nearest two centres of up to [`ROWS`] rows.
    #[inline(always)]
    fn look(&mut self, rows: &[usize], data: &Matrix, tiles: &Tiles, changed: &mut Vec<(u32, u32)>) {
        let Some(last) = rows.last() else { return };
        let values = std::array::from_fn(|at| data.row(self.from + rows.get(at).unwrap_or(last)));
        let nearest = tiles.nearest(&values);
        for (at, (label, first, second)) in rows.iter().zip(nearest) {
            self.upper[*at] = first.sqrt();
            self.lower[*at] = second.sqrt();
            if self.labels[*at] != label {
                changed.push(((self.from + at) as u32, self.labels[*at]));
                self.labels[*at] = label;
            }
        }
    }
}
