//! What many points do to a few, the innermost loop of t-SNE.

use pulp::{Arch, Simd, WithSimd};

/// Points whose forces are summed up together.
pub(super) const GROUP: usize = 32;

/// Sources between two additions in double precision, so that sums in single precision stay short. They fit into the L1 cache.
const STRETCH: usize = 1_024;

/// A point that pushes others away, or many that are taken as one in their centre.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Source<const D: usize> {
    pub(super) at: [f32; D],
    pub(super) mass: f32,
}

/// A few points and what is done to them.
#[derive(Debug, Clone)]
pub(super) struct Group<const D: usize> {
    at: [[f32; GROUP]; D],
    forces: [[f64; GROUP]; D],
    closeness: [f64; GROUP],
}

impl<const D: usize> Group<D> {
    /// Of at least one point and at most [`GROUP`].
    pub(super) fn of(points: impl ExactSizeIterator<Item = [f32; D]>) -> Self {
        let mut group = Self { at: [[0.0; GROUP]; D], forces: [[0.0; GROUP]; D], closeness: [0.0; GROUP] };
        for (lane, point) in points.enumerate() {
            group.at.iter_mut().zip(point).for_each(|(at, coordinate)| at[lane] = coordinate);
        }
        group
    }

    /// Adds what these sources do to each of the points.
    pub(super) fn add(&mut self, arch: Arch, sources: &[Source<D>]) {
        for sources in sources.chunks(STRETCH) {
            let mut sums = Sums { forces: [[0.0; GROUP]; D], closeness: [0.0; GROUP] };
            arch.dispatch(Push { at: &self.at, sources, sums: &mut sums });
            for lane in 0..GROUP {
                self.closeness[lane] += f64::from(sums.closeness[lane]);
                for axis in 0..D {
                    self.forces[axis][lane] += f64::from(sums.forces[axis][lane]);
                }
            }
        }
    }

    /// Writes the forces on the points, and gives the sum of the `q` of all of them.
    pub(super) fn finish(&self, forces: &mut [[f32; D]]) -> f64 {
        for (lane, force) in forces.iter_mut().enumerate() {
            *force = std::array::from_fn(|axis| self.forces[axis][lane] as f32);
        }
        self.closeness[..forces.len()].iter().sum()
    }
}

struct Sums<const D: usize> {
    forces: [[f32; GROUP]; D],
    closeness: [f32; GROUP],
}

struct Push<'a, const D: usize> {
    at: &'a [[f32; GROUP]; D],
    sources: &'a [Source<D>],
    sums: &'a mut Sums<D>,
}

impl<const D: usize> WithSimd for Push<'_, D> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        for from in (0..GROUP).step_by(2 * S::F32_LANES) {
            self.sources_on_two_registers(simd, from);
        }
    }
}

impl<const D: usize> Push<'_, D> {
    /// Each lane is a point and sums up in the order of the sources, so the sums do not depend on how many lanes there are.
    #[inline(always)]
    fn sources_on_two_registers<S: Simd>(&mut self, simd: S, from: usize) {
        let lanes: [_; 2] = std::array::from_fn(|half| from + half * S::F32_LANES..from + (half + 1) * S::F32_LANES);
        let at: [[S::f32s; D]; 2] = std::array::from_fn(|half| {
            std::array::from_fn(|axis| simd.partial_load_f32s(&self.at[axis][lanes[half].clone()]))
        });
        let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
        let mut forces = [[zero; D]; 2];
        let mut closeness = [zero; 2];
        for source in self.sources {
            let mass = simd.splat_f32s(source.mass);
            let centre: [S::f32s; D] = std::array::from_fn(|axis| simd.splat_f32s(source.at[axis]));
            for ((at, forces), closeness) in at.iter().zip(&mut forces).zip(&mut closeness) {
                let apart: [S::f32s; D] = std::array::from_fn(|axis| simd.sub_f32s(at[axis], centre[axis]));
                let squared = apart.iter().fold(one, |sum, apart| simd.mul_add_e_f32s(*apart, *apart, sum));
                let q = simd.div_f32s(one, squared);
                let weight = simd.mul_f32s(q, mass);
                *closeness = simd.add_f32s(*closeness, weight);
                let weight = simd.mul_f32s(weight, q);
                for (force, apart) in forces.iter_mut().zip(apart) {
                    *force = simd.mul_add_e_f32s(weight, apart, *force);
                }
            }
        }
        for ((lanes, forces), closeness) in lanes.into_iter().zip(forces).zip(closeness) {
            simd.partial_store_f32s(&mut self.sums.closeness[lanes.clone()], closeness);
            for (sums, force) in self.sums.forces.iter_mut().zip(forces) {
                simd.partial_store_f32s(&mut sums[lanes.clone()], force);
            }
        }
    }
}
