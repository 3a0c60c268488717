//! Down the gradient of the divergence, in steps with momentum and gains (Jacobs 1988), as scikit-learn and openTSNE go.

use fourmi_kinds::TsneOptions;
use rayon::prelude::*;

use super::{Affinities, Repulsion};
use crate::{LearningError, Matrix, Watch};

/// Iterations in which neighbours attract each other more than they should.
const EXAGGERATED: usize = 250;

/// The shortest automatic step.
const SHORTEST: f64 = 200.0;

/// How much of a move goes on in the next. As openTSNE, and other than scikit-learn, also at first: maps get better by it.
const MOMENTUM: f32 = 0.8;

/// The smallest gain.
const LEAST_GAIN: f32 = 0.01;

/// No row moves farther at once.
const LONGEST_MOVE: f32 = 5.0;

/// Rows that are moved by one thread at once.
const BLOCK: usize = 128;

/// The phases.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Schedule {
    phases: [Phase; 2],
}

#[derive(Debug, Clone, PartialEq)]
struct Phase {
    iterations: usize,
    exaggeration: f32,
    rate: f32,
}

impl Schedule {
    pub(super) fn of(rows: usize, options: &TsneOptions) -> Self {
        let iterations = options.iterations as usize;
        let rate =
            |exaggeration: f64| options.learning_rate.unwrap_or((rows as f64 / exaggeration).max(SHORTEST)) as f32;
        let phase = |iterations, exaggeration| Phase {
            iterations,
            exaggeration: exaggeration as f32,
            rate: rate(exaggeration),
        };
        let exaggerated = iterations.min(EXAGGERATED);
        Self { phases: [phase(exaggerated, options.early_exaggeration), phase(iterations - exaggerated, 1.0)] }
    }
}

/// Rows on their way.
pub(super) struct Descent<'a, const D: usize> {
    affinities: &'a Affinities,
    places: Vec<[f32; D]>,
    moved: Vec<[f32; D]>,
    moves: Vec<[f32; D]>,
    gains: Vec<[f32; D]>,
    repulsions: Vec<[f32; D]>,
}

impl<'a, const D: usize> Descent<'a, D> {
    pub(super) fn new(affinities: &'a Affinities, places: Vec<[f32; D]>) -> Self {
        let zeros = vec![[0.0; D]; places.len()];
        let gains = vec![[1.0; D]; places.len()];
        Self { affinities, moved: places.clone(), places, moves: zeros.clone(), gains, repulsions: zeros }
    }

    /// Bytes that it takes, with the embedding that it gives.
    pub(super) const fn memory(rows: usize) -> u64 {
        (rows * D * (5 * size_of::<f32>() + size_of::<f64>())) as u64
    }

    /// Goes through the phases.
    pub(super) fn run(
        &mut self,
        schedule: &Schedule,
        repulsion: &mut dyn Repulsion<D>,
        watch: Watch<'_>,
    ) -> Result<(), LearningError> {
        let all = schedule.phases.iter().map(|phase| phase.iterations).sum();
        let steps = schedule.phases.iter().flat_map(|phase| std::iter::repeat_n(phase, phase.iterations));
        for (done, phase) in steps.enumerate() {
            watch.step(done, all)?;
            let closeness = repulsion.repel(&self.places, &mut self.repulsions, watch)?;
            self.step(phase, closeness, watch)?;
        }
        watch.step(all, all)
    }

    /// Moves all rows, then the whole so that its centre is 0.
    fn step(&mut self, phase: &Phase, closeness: f64, watch: Watch<'_>) -> Result<(), LearningError> {
        // Where no two rows are anywhere near each other, nothing pushes.
        let push = if closeness > 0.0 { (1.0 / closeness) as f32 } else { 0.0 };
        let (affinities, places) = (self.affinities, &self.places);
        let blocks = self.moved.par_chunks_mut(BLOCK).zip(self.moves.par_chunks_mut(BLOCK));
        let blocks = blocks.zip(self.gains.par_chunks_mut(BLOCK)).zip(self.repulsions.par_chunks(BLOCK)).enumerate();
        let sums = blocks.map(|(block, (((moved, moves), gains), repulsions))| {
            watch.check()?;
            let mut sum = [0.0; D];
            for (offset, moved) in moved.iter_mut().enumerate() {
                let row = block * BLOCK + offset;
                let pull = attraction(affinities, places, row);
                let gradient =
                    std::array::from_fn(|axis| phase.exaggeration * pull[axis] - push * repulsions[offset][axis]);
                phase.advance(&mut moves[offset], &mut gains[offset], gradient);
                *moved = std::array::from_fn(|axis| places[row][axis] + moves[offset][axis]);
                (0..D).for_each(|axis| sum[axis] += f64::from(moved[axis]));
            }
            Ok(sum)
        });
        let sums = sums.collect::<Result<Vec<[f64; D]>, LearningError>>()?;
        std::mem::swap(&mut self.places, &mut self.moved);
        self.centre(&sums);
        Ok(())
    }

    fn centre(&mut self, sums: &[[f64; D]]) {
        let rows = self.places.len() as f64;
        let centre: [f32; D] =
            std::array::from_fn(|axis| (sums.iter().map(|sum| sum[axis]).sum::<f64>() / rows) as f32);
        for place in &mut self.places {
            (0..D).for_each(|axis| place[axis] -= centre[axis]);
        }
    }

    /// The divergence of the neighbourhoods here from those in the data.
    pub(super) fn divergence(
        &mut self,
        repulsion: &mut dyn Repulsion<D>,
        watch: Watch<'_>,
    ) -> Result<f64, LearningError> {
        let closeness = repulsion.repel(&self.places, &mut self.repulsions, watch)?;
        let (affinities, places) = (self.affinities, &self.places);
        let blocks = (0..places.len().div_ceil(BLOCK)).into_par_iter().map(|block| {
            watch.check()?;
            let rows = block * BLOCK..places.len().min((block + 1) * BLOCK);
            Ok(rows.map(|row| cross_entropy(affinities, places, row)).fold([0.0; 2], |a, b| [a[0] + b[0], a[1] + b[1]]))
        });
        let sums = blocks.collect::<Result<Vec<[f64; 2]>, LearningError>>()?;
        let [entropy, weight] = sums.iter().fold([0.0; 2], |a, b| [a[0] + b[0], a[1] + b[1]]);
        Ok(entropy + weight * closeness.max(f64::MIN_POSITIVE).ln())
    }

    /// Where the rows are.
    pub(super) fn embedding(&self) -> Matrix {
        let mut embedding = Matrix::zeros(self.places.len(), D);
        for (row, place) in self.places.iter().enumerate() {
            (0..D).for_each(|axis| embedding.row_mut(row)[axis] = f64::from(place[axis]));
        }
        embedding
    }
}

impl Phase {
    /// The next move of one row.
    fn advance<const D: usize>(&self, step: &mut [f32; D], gains: &mut [f32; D], gradient: [f32; D]) {
        for ((step, gain), gradient) in step.iter_mut().zip(gains).zip(gradient) {
            let same_way = *step * gradient < 0.0;
            *gain = if same_way { *gain + 0.2 } else { (*gain * 0.8).max(LEAST_GAIN) };
            *step = MOMENTUM * *step - self.rate * *gain * gradient;
        }
        let length = step.iter().map(|step| step * step).sum::<f32>().sqrt();
        if length > LONGEST_MOVE {
            step.iter_mut().for_each(|step| *step *= LONGEST_MOVE / length);
        }
    }
}

/// The sum of `p q (y - y')` over the neighbours of a row.
fn attraction<const D: usize>(affinities: &Affinities, places: &[[f32; D]], row: usize) -> [f32; D] {
    let here = places[row];
    let mut sum = [0.0; D];
    for (other, weight) in affinities.of_row(row) {
        let there = places[other as usize];
        let apart: [f32; D] = std::array::from_fn(|axis| here[axis] - there[axis]);
        let pull = weight / apart.iter().fold(1.0, |sum, apart| sum + apart * apart);
        (0..D).for_each(|axis| sum[axis] += pull * apart[axis]);
    }
    sum
}

/// The sums of `p ln(p / q)`, where the `q` are not yet divided by their sum, and of `p`.
fn cross_entropy<const D: usize>(affinities: &Affinities, places: &[[f32; D]], row: usize) -> [f64; 2] {
    affinities.of_row(row).fold([0.0; 2], |[entropy, sum], (other, weight)| {
        let apart = |axis: usize| f64::from(places[row][axis]) - f64::from(places[other as usize][axis]);
        let squared: f64 = (0..D).map(|axis| apart(axis) * apart(axis)).sum();
        let weight = f64::from(weight);
        let part = if weight > 0.0 { weight * (weight.ln() + squared.ln_1p()) } else { 0.0 };
        [entropy + part, sum + weight]
    })
}
