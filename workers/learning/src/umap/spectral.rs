//! Where rows start: at the eigenvectors of the graph's normalised Laplacian (section 4.1 and algorithm 4 of the paper).

use nalgebra::SMatrix;
use rand::RngExt;
use rayon::prelude::*;

use fourmi_kinds::Metric;

use super::graph::Graph;
use crate::{LearningError, Matrix, Stream, Watch, neighbours::nearest, stream};

/// Vectors that are worked on at once: more than are wanted, since those in excess make the others converge sooner.
pub(super) const WIDTH: usize = 8;

/// Rows that are worked on at once.
const PART: usize = 1024;

/// How far the start reaches along each axis.
const EXTENT: f32 = 10.0;

/// How far rows are moved at random, so that equal ones come apart. Its standard deviation is 1e-4, as in umap-learn.
const NOISE: f32 = 1.732e-4;

/// The most products of the graph with the vectors. What is not found by then would not be seen on the map either.
const PRODUCTS: usize = 400;

type Block = Vec<[f32; WIDTH]>;
type Small = SMatrix<f64, WIDTH, WIDTH>;

/// A place for each row, from 0 to 10 along each axis. Parts of the graph that are not connected are each laid out alone, and
/// put around places of their own.
pub(super) fn start<const D: usize>(
    data: &Matrix,
    graph: &Graph,
    seed: u64,
    watch: Watch<'_>,
) -> Result<Vec<[f32; D]>, LearningError> {
    let mut chance = stream(seed, u64::MAX);
    let mut places = vec![[0.0; D]; graph.rows()];
    let components = Components::of(graph, watch)?;
    let (centres, room) = components.centres::<D>(data, &mut chance, watch.part(0.0, 0.1))?;
    let mut done = 0;
    for (component, (centre, room)) in components.members.iter().zip(centres.iter().zip(room)) {
        watch.step(done, places.len())?;
        done += component.len();
        let own: Vec<[f32; D]> = if component.len() < 2 * D || component.len() <= D + 1 {
            component.iter().map(|_| std::array::from_fn(|_| chance.random_range(-1.0..1.0))).collect()
        } else {
            laid_out(graph, component, &components.position, &mut chance, watch)?
        };
        let largest = own.iter().flatten().fold(f32::MIN_POSITIVE, |largest: f32, value| largest.max(value.abs()));
        for (row, own) in component.iter().zip(own) {
            places[*row as usize] = std::array::from_fn(|axis| centre[axis] + room * own[axis] / largest);
        }
    }
    let largest = places.iter().flatten().fold(f32::MIN_POSITIVE, |largest: f32, value| largest.max(value.abs()));
    for value in places.iter_mut().flatten() {
        *value = *value * EXTENT / largest + chance.random_range(-NOISE..NOISE);
    }
    for axis in 0..D {
        let (low, high) = places.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), place| {
            (low.min(place[axis]), high.max(place[axis]))
        });
        let width = (high - low).max(f32::MIN_POSITIVE);
        places.iter_mut().for_each(|place| place[axis] = EXTENT * (place[axis] - low) / width);
    }
    Ok(places)
}

/// The connected parts of a graph.
struct Components {
    /// The rows of each, in order.
    members: Vec<Vec<u32>>,
    /// Of each row among those of its component.
    position: Vec<u32>,
}

impl Components {
    fn of(graph: &Graph, watch: Watch<'_>) -> Result<Self, LearningError> {
        let mut component = vec![u32::MAX; graph.rows()];
        let mut sizes: Vec<usize> = vec![];
        let mut reached = vec![];
        let mut seen = 0_usize;
        for first in 0..graph.rows() {
            if component[first] != u32::MAX {
                continue;
            }
            let number = sizes.len() as u32;
            component[first] = number;
            reached.push(first as u32);
            let mut size = 0;
            while let Some(row) = reached.pop() {
                if seen.is_multiple_of(PART) {
                    watch.check()?;
                }
                seen += 1;
                size += 1;
                for neighbour in graph.of_row(row as usize).0 {
                    if component[*neighbour as usize] == u32::MAX {
                        component[*neighbour as usize] = number;
                        reached.push(*neighbour);
                    }
                }
            }
            sizes.push(size);
        }
        let mut members: Vec<Vec<u32>> = sizes.into_iter().map(Vec::with_capacity).collect();
        let mut position = vec![0; graph.rows()];
        for (row, component) in component.into_iter().enumerate() {
            if row.is_multiple_of(PART) {
                watch.check()?;
            }
            let members = &mut members[component as usize];
            position[row] = members.len() as u32;
            members.push(row as u32);
        }
        Ok(Self { members, position })
    }

    /// Where each component is put, and how far it may reach: half the way to the next. A few are put on the axes, as
    /// umap-learn does; more of them at the principal components of their means.
    fn centres<const D: usize>(
        &self,
        data: &Matrix,
        chance: &mut Stream,
        watch: Watch<'_>,
    ) -> Result<(Vec<[f32; D]>, Vec<f32>), LearningError> {
        let count = self.members.len();
        if count == 1 {
            return Ok((vec![[0.0; D]], vec![1.0]));
        }
        let half = count.div_ceil(2);
        let centres: Vec<[f32; D]> = if count <= 2 * D {
            let sign = |at| if at < half { 1.0 } else { -1.0 };
            let on_axis = |at: usize| std::array::from_fn(|axis| if axis == at % half { sign(at) } else { 0.0 });
            (0..count).map(on_axis).collect()
        } else {
            principal(&self.means(data), chance, watch)?
        };
        let as_matrix = Matrix::new(D, centres.iter().flatten().map(|value| f64::from(*value)).collect())?;
        let room = nearest(&as_matrix, 1, Metric::Euclidean, watch)?.distances;
        Ok((centres, room.into_iter().map(|distance| distance as f32 / 2.0).collect()))
    }

    /// The mean of the rows of each, centred and divided by the largest magnitude.
    fn means(&self, data: &Matrix) -> Vec<Vec<f32>> {
        let mean = |members: &Vec<u32>| {
            let mut mean = vec![0.0; data.columns()];
            for row in members {
                mean.iter_mut().zip(data.row(*row as usize)).for_each(|(sum, value)| *sum += value);
            }
            mean.iter_mut().for_each(|sum| *sum /= members.len() as f64);
            mean
        };
        let mut means: Vec<_> = self.members.iter().map(mean).collect();
        for column in 0..data.columns() {
            let centre = means.iter().map(|mean| mean[column]).sum::<f64>() / means.len() as f64;
            means.iter_mut().for_each(|mean| mean[column] -= centre);
        }
        let largest = means.iter().flatten().fold(f64::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
        means.into_iter().map(|mean| mean.into_iter().map(|value| (value / largest) as f32).collect()).collect()
    }
}

/// The first principal components of a few rows that are centred.
fn principal<const D: usize>(
    rows: &[Vec<f32>],
    chance: &mut Stream,
    watch: Watch<'_>,
) -> Result<Vec<[f32; D]>, LearningError> {
    let trace = rows.iter().flatten().map(|value| value * value).sum::<f32>().max(f32::MIN_POSITIVE);
    let product = |from: &[[f32; WIDTH]], to: &mut [[f32; WIDTH]]| {
        watch.check()?;
        let mut sums = vec![[0.0; WIDTH]; rows[0].len()];
        for (row, from) in rows.iter().zip(from) {
            for (sums, value) in sums.iter_mut().zip(row) {
                sums.iter_mut().zip(from).for_each(|(sum, from)| *sum += value * from);
            }
        }
        for (row, to) in rows.iter().zip(to) {
            *to = [0.0; WIDTH];
            for (sums, value) in sums.iter().zip(row) {
                to.iter_mut().zip(sums).for_each(|(to, sum)| *to += value * sum / trace);
            }
        }
        Ok(())
    };
    let (vectors, values) = leading(product, rows.len(), D, None, chance)?;
    let spread: [f32; D] = std::array::from_fn(|axis| values[axis].max(0.0).sqrt() as f32);
    Ok(vectors.iter().map(|vector| std::array::from_fn(|axis| vector[axis] * spread[axis])).collect())
}

/// The eigenvectors of a component, after the first, which says nothing.
fn laid_out<const D: usize>(
    graph: &Graph,
    rows: &[u32],
    position: &[u32],
    chance: &mut Stream,
    watch: Watch<'_>,
) -> Result<Vec<[f32; D]>, LearningError> {
    let degree = |row: &u32| graph.of_row(*row as usize).1.iter().sum::<f32>();
    let roots: Vec<f32> = rows.iter().map(|row| degree(row).sqrt()).collect();
    let product = |from: &[[f32; WIDTH]], to: &mut [[f32; WIDTH]]| {
        to.par_chunks_mut(PART).enumerate().try_for_each(|(part, to)| {
            watch.check()?;
            for (at, to) in (part * PART..).zip(to) {
                let (neighbours, weights) = graph.of_row(rows[at] as usize);
                *to = [0.0; WIDTH];
                for (neighbour, weight) in neighbours.iter().zip(weights) {
                    let other = position[*neighbour as usize] as usize;
                    let weight = weight / (roots[at] * roots[other]);
                    to.iter_mut().zip(from[other]).for_each(|(to, from)| *to += weight * from);
                }
            }
            Ok(())
        })
    };
    let length = roots.iter().map(|root| f64::from(*root).powi(2)).sum::<f64>().sqrt() as f32;
    let known: Vec<f32> = roots.iter().map(|root| root / length).collect();
    let (vectors, _) = leading(product, rows.len(), D, Some(&known), chance)?;
    Ok(vectors.into_iter().map(|vector| std::array::from_fn(|axis| vector[axis])).collect())
}

/// Eigenvectors to the largest eigenvalues of a symmetric matrix whose eigenvalues are between -1 and 1, at right angles to
/// one that is known: by subspace iteration, filtered by Chebyshev polynomials (Zhou, Saad, Tiago and Chelikowsky 2006,
/// "Self-consistent-field calculations using Chebyshev-filtered subspace iteration"). Those that are there beyond the
/// `wanted` ones are less exact.
fn leading(
    product: impl Fn(&[[f32; WIDTH]], &mut [[f32; WIDTH]]) -> Result<(), LearningError>,
    rows: usize,
    wanted: usize,
    known: Option<&[f32]>,
    chance: &mut Stream,
) -> Result<(Block, [f64; WIDTH]), LearningError> {
    let mut vectors: Block = (0..rows).map(|_| std::array::from_fn(|_| chance.random_range(-1.0..1.0))).collect();
    let mut image = vec![[0.0; WIDTH]; rows];
    let mut spare = vec![[0.0; WIDTH]; rows];
    let mut products = 0;
    loop {
        if let Some(known) = known {
            remove(&mut vectors, known);
        }
        product(&vectors, &mut image)?;
        products += 1;
        let (turn, values) = ritz(&sums(&vectors, &vectors), &sums(&vectors, &image));
        transform(&mut vectors, &turn);
        transform(&mut image, &turn);
        if products >= PRODUCTS || converged(&vectors, &image, &values, wanted) {
            return Ok((vectors, values));
        }
        // Eigenvalues up to the least of those that are followed are damped; those above it grow.
        let cut = values[WIDTH - 1].clamp(-0.9, 1.0 - 1e-6);
        let (middle, radius) = ((cut - 1.0) / 2.0, f64::midpoint(cut, 1.0));
        let degree = (6.0 / ((1.0 - middle) / radius).acosh()).clamp(3.0, 40.0) as usize;
        let (middle, radius) = (middle as f32, radius as f32);
        combine(&mut image, |row, lane, value| (value - middle * vectors[row][lane]) / radius);
        for _ in 1..degree {
            product(&image, &mut spare)?;
            combine(&mut spare, |row, lane, value| {
                2.0 * (value - middle * image[row][lane]) / radius - vectors[row][lane]
            });
            std::mem::swap(&mut vectors, &mut image);
            std::mem::swap(&mut image, &mut spare);
        }
        products += degree - 1;
        std::mem::swap(&mut vectors, &mut image);
    }
}

fn combine(block: &mut Block, value: impl Fn(usize, usize, f32) -> f32 + Sync) {
    block.par_chunks_mut(PART).enumerate().for_each(|(part, block)| {
        for (row, lanes) in (part * PART..).zip(block) {
            *lanes = std::array::from_fn(|lane| value(row, lane, lanes[lane]));
        }
    });
}

/// Makes all vectors stand at right angles to one of length 1.
fn remove(vectors: &mut Block, known: &[f32]) {
    let mut along = [0.0_f64; WIDTH];
    for (vector, known) in vectors.iter().zip(known) {
        along.iter_mut().zip(vector).for_each(|(sum, value)| *sum += f64::from(*value) * f64::from(*known));
    }
    combine(vectors, |row, lane, value| value - along[lane] as f32 * known[row]);
}

/// The products of all vectors with each other, summed part by part.
fn sums(a: &Block, b: &Block) -> Small {
    let parts: Vec<Small> = a
        .par_chunks(PART)
        .zip(b.par_chunks(PART))
        .map(|(a, b)| {
            let mut sums = [[0.0_f64; WIDTH]; WIDTH];
            for (a, b) in a.iter().zip(b) {
                for (sums, b) in sums.iter_mut().zip(b) {
                    sums.iter_mut().zip(a).for_each(|(sum, a)| *sum += f64::from(*a) * f64::from(*b));
                }
            }
            Small::from(sums)
        })
        .collect();
    parts.iter().sum()
}

/// The combinations of vectors that are at right angles, of length 1 and eigenvectors within what the vectors span (Rayleigh
/// and Ritz), the largest eigenvalue first; nothing in place of those that depend on the others.
fn ritz(overlap: &Small, image: &Small) -> (Small, [f64; WIDTH]) {
    let scale =
        Small::from_diagonal(&overlap.diagonal().map(|square| if square > 0.0 { square.powf(-0.5) } else { 0.0 }));
    let overlap = (scale * overlap * scale).symmetric_eigen();
    let stretch = overlap.eigenvalues.map(|value| if value > 1e-6 { value.powf(-0.5) } else { 0.0 });
    let straight = scale * overlap.eigenvectors * Small::from_diagonal(&stretch);
    let image = straight.transpose() * (image + image.transpose()) * straight / 2.0;
    let found = image.symmetric_eigen();
    // What depends on the others comes out as a vector of nothing with the eigenvalue 0: it goes last.
    let turn = straight * found.eigenvectors;
    let value = |at: usize| if turn.column(at).norm_squared() > 0.0 { found.eigenvalues[at] } else { -1.0 };
    let mut order: [usize; WIDTH] = std::array::from_fn(|at| at);
    order.sort_by(|a, b| value(*b).total_cmp(&value(*a)));
    (Small::from_columns(&order.map(|at| turn.column(at).into_owned())), order.map(value))
}

fn transform(block: &mut Block, turn: &Small) {
    let turn = turn.map(|value| value as f32);
    block.par_chunks_mut(PART).for_each(|block| {
        for lanes in block {
            *lanes = std::array::from_fn(|to| (0..WIDTH).map(|from| lanes[from] * turn[(from, to)]).sum());
        }
    });
}

/// Whether what is left of the wanted vectors is small beside what their eigenvalues lack to 1.
fn converged(vectors: &Block, image: &Block, values: &[f64; WIDTH], wanted: usize) -> bool {
    let mut left = [0.0_f64; WIDTH];
    for (vector, image) in vectors.iter().zip(image) {
        for (lane, left) in left[..wanted].iter_mut().enumerate() {
            *left += (f64::from(image[lane]) - values[lane] * f64::from(vector[lane])).powi(2);
        }
    }
    (0..wanted).all(|lane| left[lane].sqrt() <= 0.02 * (1.0 - values[lane]).max(0.0) + 1e-5)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::umap::graph::tests::ring;

    #[test]
    fn the_search_for_components_stops_when_told_to() {
        let graph = Graph::of(ring(10_000), 500, Watch::nobody()).unwrap();
        let asked = AtomicUsize::new(0);
        let run = |limit: usize| {
            asked.store(0, Ordering::Relaxed);
            let told = || asked.fetch_add(1, Ordering::Relaxed) >= limit;
            Components::of(&graph, Watch::new(&told, &|_| {})).map(|components| components.members.len())
        };
        assert_eq!(run(usize::MAX), Ok(1));
        let all = asked.load(Ordering::Relaxed);
        assert!(all >= 2 * 10_000 / PART, "{all}");
        for limit in 0..all {
            assert_eq!(run(limit), Err(LearningError::Cancelled), "at {limit} of {all}");
        }
    }

    #[test]
    fn leading_vectors_are_those_of_a_path() {
        // The path of n rows has the eigenvalues cos(pi j / (n + 1)).
        let n = 300_usize;
        let product = |from: &[[f32; WIDTH]], to: &mut [[f32; WIDTH]]| {
            for (row, to) in to.iter_mut().enumerate() {
                let at = |row: usize, lane: usize| from.get(row).map_or(0.0, |lanes| lanes[lane]);
                *to = std::array::from_fn(|lane| (at(row.wrapping_sub(1), lane) + at(row + 1, lane)) / 2.0);
            }
            Ok(())
        };
        let (vectors, values) = leading(product, n, 3, None, &mut stream(1, 1)).unwrap();
        for (lane, value) in values.into_iter().enumerate().take(3) {
            let step = std::f64::consts::PI * (lane + 1) as f64 / (n + 1) as f64;
            assert!((value - step.cos()).abs() < 1e-5, "{lane}: {value}");
            let root = (2.0 / (n + 1) as f64).sqrt();
            let along: f64 =
                (0..n).map(|row| f64::from(vectors[row][lane]) * root * (step * (row + 1) as f64).sin()).sum();
            assert!(along.abs() > 0.99, "{lane}: {along}");
        }
    }
}
