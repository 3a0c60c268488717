//! The map is laid out on a grid, on which pushing is a convolution: Linderman, Rachh, Hoskins, Steinerberger and Kluger, "Fast
//! interpolation-based t-SNE for improved visualization of single-cell RNA-seq data" (2019).
//!
//! Three nodes on each side of a box, between which a row's weight is divided by Lagrange polynomials. Other than there, the
//! kernels are those of the force itself, `q` and `q² (y - y')`, so that there is one charge for each node instead of four.
//! And a grid stays while the map fits it, so that their transforms are seldom taken anew.

use std::{ops::Range, sync::Arc};

use rayon::prelude::*;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex, num_complex::Complex};
use rustfft::{Fft, FftPlanner};

use super::{Repulsion, barnes_hut::BarnesHut};
use crate::{LearningError, Watch};

/// Nodes on each side of a box.
const NODES: usize = 3;

/// Fewest boxes on each side of the grid.
const FEWEST: usize = 50;

/// The widest box, in units of the map.
const WIDEST: f32 = 1.0;

/// Columns that are transformed by one thread at once: as many as share a cache line.
const COLUMNS: usize = 8;

/// Rows of the table whose boxes are found by one thread at once.
const BLOCK: usize = 512;

/// `q` and the force along both axes.
const KERNELS: usize = 3;

/// Sums up over a grid; over a tree, while rows are so far apart that the grid would be too large.
pub(super) struct Interpolation {
    tree: BarnesHut<2>,
    grid: Option<Grid>,
    space: Space,
}

/// What is filled anew each time.
#[derive(Default)]
struct Space {
    /// The rows of the table by the line of boxes they are in, and where each line starts.
    lines: Lines,
    /// What is in each node.
    charges: Vec<f32>,
    /// Their transform line by line.
    spectrum: Vec<Complex<f32>>,
    /// The transforms of the results by column: for each [`COLUMNS`] of them and each kernel, line by line.
    products: Vec<Complex<f32>>,
    /// What there is to get at each node.
    results: Vec<[f32; KERNELS]>,
    closeness: Vec<f64>,
}

impl Interpolation {
    pub(super) fn new(theta: f64) -> Self {
        Self { tree: BarnesHut::new(theta), grid: None, space: Space::default() }
    }

    /// Bytes that it takes at most.
    pub(super) fn memory(rows: usize) -> u64 {
        let side = NODES * most_boxes(rows);
        let node = size_of::<f32>() + KERNELS * size_of::<f32>() + KERNELS * size_of::<f32>();
        let transformed = (1 + KERNELS) * size_of::<Complex<f32>>();
        (rows * 2 * size_of::<u32>() + (side + COLUMNS) * (side + COLUMNS) * (node + transformed)) as u64
    }
}

/// Most boxes on each side. A map grows with the root of its rows.
fn most_boxes(rows: usize) -> usize {
    (3 * rows.isqrt()).clamp(200, 720)
}

impl Repulsion<2> for Interpolation {
    fn repel(&mut self, rows: &[[f32; 2]], forces: &mut [[f32; 2]], watch: Watch<'_>) -> Result<f64, LearningError> {
        let frame = Frame::around(rows);
        if !self.grid.as_ref().is_some_and(|grid| grid.fits(frame.side)) {
            // The old one goes first, so that there are never two.
            self.grid = None;
            self.grid = Grid::for_side(frame.side, most_boxes(rows.len()), watch)?;
        }
        match &self.grid {
            Some(grid) => grid.repel(&frame, rows, forces, &mut self.space, watch),
            None => self.tree.repel(rows, forces, watch),
        }
    }
}

/// The square around the map.
struct Frame {
    centre: [f32; 2],
    side: f32,
}

impl Frame {
    fn around(rows: &[[f32; 2]]) -> Self {
        let ends = rows.iter().fold([[f32::INFINITY; 2], [f32::NEG_INFINITY; 2]], |[low, high], row| {
            [[low[0].min(row[0]), low[1].min(row[1])], [high[0].max(row[0]), high[1].max(row[1])]]
        });
        let [low, high] = ends;
        Self {
            centre: [(low[0] + high[0]) / 2.0, (low[1] + high[1]) / 2.0],
            side: (high[0] - low[0]).max(high[1] - low[1]).max(f32::MIN_POSITIVE.sqrt()),
        }
    }
}

/// Numbers of rows by the line of boxes they are in.
#[derive(Default)]
struct Lines {
    rows: Vec<u32>,
    starts: Vec<usize>,
}

impl Lines {
    /// Sorts by counting, so that rows of a line keep their order.
    fn fill(&mut self, lines: usize, line_of: impl Iterator<Item = usize> + Clone) {
        self.starts.clear();
        self.starts.resize(lines + 1, 0);
        line_of.clone().for_each(|line| self.starts[line + 1] += 1);
        (0..lines).for_each(|line| self.starts[line + 1] += self.starts[line]);
        let mut ends = self.starts.clone();
        self.rows.resize(self.starts[lines], 0);
        for (row, line) in line_of.enumerate() {
            self.rows[ends[line]] = row as u32;
            ends[line] += 1;
        }
    }

    fn of_line(&self, line: usize) -> &[u32] {
        &self.rows[self.starts[line]..self.starts[line + 1]]
    }
}

/// A square of boxes, and the kernels on it.
struct Grid {
    boxes: usize,
    width: f32,
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
    column_forward: Arc<dyn Fft<f32>>,
    column_inverse: Arc<dyn Fft<f32>>,
    kernels: Spectra,
}

impl Grid {
    /// For a map as large as this; none, if that would take too many boxes.
    fn for_side(side: f32, most: usize, watch: Watch<'_>) -> Result<Option<Self>, LearningError> {
        let (boxes, width) = if side <= FEWEST as f32 * WIDEST {
            // Widths are powers of an eighth root of 2, so that a growing map does not always need a new one.
            (FEWEST, (((side * 1.02 / FEWEST as f32).log2() * 8.0).ceil() / 8.0).exp2().min(WIDEST))
        } else {
            (transformable((side * 1.02 / WIDEST).ceil() as usize), WIDEST)
        };
        if boxes > most {
            return Ok(None);
        }
        let length = 2 * NODES * boxes;
        let (mut planner, mut columns) = (RealFftPlanner::new(), FftPlanner::new());
        let forward = planner.plan_fft_forward(length);
        Ok(Some(Self {
            boxes,
            width,
            inverse: planner.plan_fft_inverse(length),
            column_forward: columns.plan_fft_forward(length),
            column_inverse: columns.plan_fft_inverse(length),
            kernels: Spectra::new(forward.as_ref(), width / NODES as f32, watch)?,
            forward,
        }))
    }

    /// Whether the map is inside of it and not much smaller.
    fn fits(&self, side: f32) -> bool {
        let all = self.boxes as f32 * self.width;
        side <= all && side >= 0.8 * all
    }

    /// Nodes on each side.
    const fn side(&self) -> usize {
        NODES * self.boxes
    }

    fn repel(
        &self,
        frame: &Frame,
        rows: &[[f32; 2]],
        forces: &mut [[f32; 2]],
        space: &mut Space,
        watch: Watch<'_>,
    ) -> Result<f64, LearningError> {
        let corner = frame.centre.map(|centre| centre - self.boxes as f32 * self.width / 2.0);
        let place = |row: usize| Place::of(rows[row], corner, self.width, self.boxes);
        space.lines.fill(self.boxes, (0..rows.len()).map(|row| place(row).corner[1] / NODES));
        watch.check()?;
        self.spread(place, space);
        self.transform(space, watch)?;
        self.multiply(space, watch)?;
        self.transform_back(space, watch)?;
        space.closeness.resize(rows.len().div_ceil(BLOCK), 0.0);
        let results = &space.results;
        forces.par_chunks_mut(BLOCK).zip(&mut space.closeness).enumerate().try_for_each(
            |(block, (forces, closeness))| {
                watch.check()?;
                *closeness = 0.0;
                for (offset, force) in forces.iter_mut().enumerate() {
                    let [q, x, y] = place(block * BLOCK + offset).gather(results, self.side());
                    *closeness += f64::from(q);
                    *force = [x, y];
                }
                Ok::<_, LearningError>(())
            },
        )?;
        // Each row has met itself.
        Ok(space.closeness.iter().sum::<f64>() - rows.len() as f64)
    }

    /// Puts each row into the nodes of its box. A line of boxes has its nodes to itself.
    fn spread(&self, place: impl Fn(usize) -> Place + Sync, space: &mut Space) {
        let side = self.side();
        space.charges.clear();
        space.charges.resize(side * side, 0.0);
        space.charges.par_chunks_mut(NODES * side).enumerate().for_each(|(line, charges)| {
            for &row in space.lines.of_line(line) {
                let place = place(row as usize);
                for (y, weight) in place.weights[1].iter().enumerate() {
                    let charges = &mut charges[y * side + place.corner[0]..][..NODES];
                    charges.iter_mut().zip(place.weights[0]).for_each(|(charge, part)| *charge += weight * part);
                }
            }
        });
    }

    /// Transforms line by line; the other half of the lines has nothing in it.
    fn transform(&self, space: &mut Space, watch: Watch<'_>) -> Result<(), LearningError> {
        let side = self.side();
        space.spectrum.resize(side * (side + 1), Complex::default());
        let lines = space.spectrum.par_chunks_mut(side + 1).zip(space.charges.par_chunks(side));
        let buffers = || (self.forward.make_input_vec(), self.forward.make_scratch_vec());
        lines.try_for_each_init(buffers, |(input, scratch), (spectrum, charges)| {
            watch.check()?;
            input[..side].copy_from_slice(charges);
            input[side..].fill(0.0);
            // Fails only if a length is wrong.
            let _ = self.forward.process_with_scratch(input, spectrum, scratch);
            Ok(())
        })
    }

    /// Transforms the columns, multiplies them by each kernel, and transforms them back.
    fn multiply(&self, space: &mut Space, watch: Watch<'_>) -> Result<(), LearningError> {
        let side = self.side();
        let length = 2 * side;
        space.products.resize((side + 1).div_ceil(COLUMNS) * KERNELS * side * COLUMNS, Complex::default());
        let scratch = self.column_forward.get_inplace_scratch_len().max(self.column_inverse.get_inplace_scratch_len());
        let buffers = || {
            [
                vec![Complex::default(); length * COLUMNS],
                vec![Complex::default(); length],
                vec![Complex::default(); scratch],
            ]
        };
        let spectrum = &space.spectrum;
        let blocks = space.products.par_chunks_mut(KERNELS * side * COLUMNS).enumerate();
        blocks.try_for_each_init(buffers, |[columns, product, scratch], (block, products)| {
            let range = block * COLUMNS..(side + 1).min((block + 1) * COLUMNS);
            watch.check()?;
            gather_columns(spectrum, side, range.clone(), columns);
            self.column_forward.process_with_scratch(&mut columns[..length * range.len()], scratch);
            for (at, column) in range.enumerate() {
                let charges = &columns[at * length..][..length];
                for (kernel, products) in products.chunks_exact_mut(side * COLUMNS).enumerate() {
                    self.kernels.apply(kernel, column, charges, product);
                    self.column_inverse.process_with_scratch(product, scratch);
                    for (line, product) in product[..side].iter().enumerate() {
                        products[line * COLUMNS + at] = *product;
                    }
                }
            }
            Ok(())
        })
    }

    /// Transforms back line by line.
    fn transform_back(&self, space: &mut Space, watch: Watch<'_>) -> Result<(), LearningError> {
        let side = self.side();
        space.results.resize(side * side, [0.0; KERNELS]);
        let products = &space.products;
        let buffers =
            || (self.inverse.make_input_vec(), self.inverse.make_output_vec(), self.inverse.make_scratch_vec());
        let lines = space.results.par_chunks_mut(side).enumerate();
        lines.try_for_each_init(buffers, |(input, output, scratch), (line, results)| {
            watch.check()?;
            for kernel in 0..KERNELS {
                for (block, input) in input.chunks_mut(COLUMNS).enumerate() {
                    let products = &products[((block * KERNELS + kernel) * side + line) * COLUMNS..];
                    input.copy_from_slice(&products[..input.len()]);
                }
                // What rounding left there; a real signal has nothing.
                (input[0].im, input[side].im) = (0.0, 0.0);
                let _ = self.inverse.process_with_scratch(input, output, scratch);
                results.iter_mut().zip(&*output).for_each(|(result, value)| result[kernel] = *value);
            }
            Ok(())
        })
    }
}

/// Some columns of the spectrum, one after the other, each with as many zeros after it.
fn gather_columns(spectrum: &[Complex<f32>], side: usize, range: Range<usize>, columns: &mut [Complex<f32>]) {
    for (line, spectrum) in spectrum.chunks_exact(side + 1).enumerate() {
        for (at, value) in spectrum[range.clone()].iter().enumerate() {
            columns[at * 2 * side + line] = *value;
        }
    }
    columns.chunks_exact_mut(2 * side).for_each(|column| column[side..].fill(Complex::default()));
}

/// Where a row is on the grid.
struct Place {
    /// The first node of its box.
    corner: [usize; 2],
    /// How much of it each node gets, along each axis.
    weights: [[f32; NODES]; 2],
}

impl Place {
    fn of(row: [f32; 2], corner: [f32; 2], width: f32, boxes: usize) -> Self {
        let at: [f32; 2] = std::array::from_fn(|axis| (row[axis] - corner[axis]) / width);
        let first = at.map(|at| (at as usize).min(boxes - 1));
        let weights = std::array::from_fn(|axis| {
            // Nodes are at -1, 0 and 1.
            let u = (at[axis] - first[axis] as f32 - 0.5) * NODES as f32;
            [u * (u - 1.0) / 2.0, 1.0 - u * u, u * (u + 1.0) / 2.0]
        });
        Self { corner: first.map(|first| first * NODES), weights }
    }

    fn gather(&self, results: &[[f32; KERNELS]], side: usize) -> [f32; KERNELS] {
        let mut sum = [0.0; KERNELS];
        for (y, weight) in self.weights[1].iter().enumerate() {
            let results = &results[(self.corner[1] + y) * side + self.corner[0]..][..NODES];
            for (result, part) in results.iter().zip(self.weights[0]) {
                (0..KERNELS).for_each(|kernel| sum[kernel] += weight * part * result[kernel]);
            }
        }
        sum
    }
}

/// The transforms of the kernels, divided by the number of nodes that are transformed. The first is even along both axes, so its
/// transform is real and even; the other two are odd along one, so theirs are imaginary and odd along it. A quarter is kept, column
/// by column, and the third is the second with its axes exchanged.
struct Spectra {
    side: usize,
    quarters: [Vec<f32>; KERNELS],
}

impl Spectra {
    fn new(forward: &dyn RealToComplex<f32>, spacing: f32, watch: Watch<'_>) -> Result<Self, LearningError> {
        let side = forward.len() / 2;
        let closeness =
            quarter(forward, watch, |x, y| 1.0 / (1.0 + spacing * spacing * (x * x + y * y)), |value| value.re)?;
        let force = |x: f32, y: f32| {
            let squared = 1.0 + spacing * spacing * (x * x + y * y);
            // Halfway around it is both on the left and on the right.
            if x.abs() as usize == side { 0.0 } else { spacing * x / (squared * squared) }
        };
        let across = quarter(forward, watch, force, |value| value.im)?;
        let width = side + 1;
        let along = (0..width * width).map(|at| across[at % width * width + at / width]).collect();
        Ok(Self { side, quarters: [closeness, across, along] })
    }

    /// Multiplies one column of a spectrum.
    fn apply(&self, kernel: usize, column: usize, charges: &[Complex<f32>], product: &mut [Complex<f32>]) {
        let width = self.side + 1;
        let quarter = &self.quarters[kernel][column * width..][..width];
        let (low, high) = product.split_at_mut(width);
        let mirrored = quarter[1..self.side].iter().rev();
        let pairs = low.iter_mut().zip(&charges[..width]).zip(quarter);
        let mirrored = high.iter_mut().zip(&charges[width..]).zip(mirrored);
        let turned = |charge: &Complex<f32>, factor: f32| Complex::new(-charge.im * factor, charge.re * factor);
        match kernel {
            0 => pairs.chain(mirrored).for_each(|((product, charge), factor)| *product = charge * factor),
            1 => pairs.chain(mirrored).for_each(|((product, charge), factor)| *product = turned(charge, *factor)),
            _ => {
                pairs.for_each(|((product, charge), factor)| *product = turned(charge, *factor));
                mirrored.for_each(|((product, charge), factor)| *product = turned(charge, -factor));
            }
        }
    }
}

/// A quarter of the transform, column by column, of a kernel that is even along y.
fn quarter(
    forward: &dyn RealToComplex<f32>,
    watch: Watch<'_>,
    kernel: impl Fn(f32, f32) -> f32 + Sync,
    part: fn(Complex<f32>) -> f32,
) -> Result<Vec<f32>, LearningError> {
    let (length, width) = (forward.len(), forward.len() / 2 + 1);
    // From the middle on, the grid goes round to the left.
    let signed = |at: usize| if at < width { at as f32 } else { at as f32 - length as f32 };
    let factor = 1.0 / (length as f32 * length as f32);
    let buffers = || (forward.make_input_vec(), forward.make_output_vec(), forward.make_scratch_vec());
    let mut lines = vec![0.0; width * width];
    lines.par_chunks_mut(width).enumerate().try_for_each_init(buffers, |(input, output, scratch), (y, line)| {
        watch.check()?;
        input.iter_mut().enumerate().for_each(|(x, value)| *value = kernel(signed(x), y as f32) * factor);
        let _ = forward.process_with_scratch(input, output, scratch);
        line.iter_mut().zip(&*output).for_each(|(value, transformed)| *value = part(*transformed));
        Ok::<_, LearningError>(())
    })?;
    let mut columns = vec![0.0; width * width];
    columns.par_chunks_mut(width).enumerate().try_for_each_init(buffers, |(input, output, scratch), (x, column)| {
        watch.check()?;
        input.iter_mut().enumerate().for_each(|(y, value)| *value = lines[y.min(length - y) * width + x]);
        let _ = forward.process_with_scratch(input, output, scratch);
        column.iter_mut().zip(&*output).for_each(|(value, transformed)| *value = transformed.re);
        Ok::<_, LearningError>(())
    })?;
    Ok(columns)
}

/// The next number that has no prime factors above 5, which are transformed fast.
fn transformable(least: usize) -> usize {
    let smooth = |mut number: usize| {
        for factor in [2, 3, 5] {
            while number.is_multiple_of(factor) {
                number /= factor;
            }
        }
        number == 1
    };
    (least.max(1)..).find(|&number| smooth(number)).unwrap_or(least)
}
