//! All rows push all others away, pair by pair.

use pulp::Arch;
use rayon::prelude::*;

use super::{
    Repulsion,
    kernel::{GROUP, Group, Source},
};
use crate::{LearningError, Watch};

/// Sources between two questions whether to go on: about a tenth of a millisecond.
const STRETCH: usize = 8_192;

/// Sums up pair by pair.
#[derive(Debug, Default)]
pub(super) struct Exact<const D: usize> {
    sources: Vec<Source<D>>,
    closeness: Vec<f64>,
}

impl<const D: usize> Repulsion<D> for Exact<D> {
    fn repel(&mut self, rows: &[[f32; D]], forces: &mut [[f32; D]], watch: Watch<'_>) -> Result<f64, LearningError> {
        let arch = Arch::new();
        self.sources.clear();
        self.sources.extend(rows.iter().map(|&at| Source { at, mass: 1.0 }));
        self.closeness.resize(rows.len().div_ceil(GROUP), 0.0);
        let groups = rows.par_chunks(GROUP).zip(forces.par_chunks_mut(GROUP)).zip(&mut self.closeness);
        groups.try_for_each(|((rows, forces), closeness)| {
            let mut group = Group::of(rows.iter().copied());
            for sources in self.sources.chunks(STRETCH) {
                watch.check()?;
                group.add(arch, sources);
            }
            *closeness = group.finish(forces);
            Ok(())
        })?;
        // Each row has met itself.
        Ok(self.closeness.iter().sum::<f64>() - rows.len() as f64)
    }
}
