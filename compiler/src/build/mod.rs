//! `Model` to `Graph`: named axes become positions, and a model becomes the entries of a program.
//!
//! Every node of the model becomes one or a few ops; operands are aligned by axis identity with an explicit
//! [`Op::Arrange`](crate::ir::op::Op::Arrange). A body that ran over `~ masks` was evaluated once by `elaborate`, its
//! tensors have outer `Segments`: that is the packing. Nothing here can fail on a checked model; a failure is a bug.

mod entries;
mod nodes;
mod tables;

use crate::ir::graph::{Graph, ScalarSpec, Tables};
use crate::model::{Model, Schedule};

pub use tables::{ScalarIds, Start};

/// What `build` makes of a model.
#[derive(Clone, Debug)]
pub struct Built {
    /// Shared tables; gradient and moment slots are added later, by `driver`.
    pub tables: Tables,
    /// What the scalars refer to.
    pub schedules: Vec<Schedule>,
    /// The scalars that the update needs.
    pub scalars: ScalarIds,
    /// Stores buffers and initial weights (f64).
    pub init: Graph,
    /// Draws masks (f64); outputs `mask.K.context`, `mask.K.target`, `mask.K.require.N`.
    pub draw: Graph,
    /// Number of `require` outputs of each mask.
    pub requires: Vec<usize>,
    /// Computes `loss` (and taps), f32; gradients are added by `autodiff`.
    pub forward: Graph,
    /// Computes `metric.NAME`.
    pub metrics: Graph,
    /// Computes `features`; empty without a backbone.
    pub backbone: Graph,
}

impl Built {
    /// The scalars at a step of a run of `total`, for a trial of masks, whose settings may be schedules.
    pub fn scalars_at(&self, step: u64, total: usize) -> Vec<f64> {
        let value = |s: &ScalarSpec| match s.schedule {
            Some(i) => self.schedules[i].at((step - u64::from(s.previous)) as f64, total as f64),
            None => 0.0,
        };
        self.tables.scalars.iter().map(value).collect()
    }
}

/// What to build beyond the model itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Keep model-level calls and equations as outputs `tap.*`.
    pub taps: bool,
}

/// Builds every entry of a checked model.
pub fn build(model: &Model, options: Options) -> Built {
    let mut start = tables::start(model);
    let init = entries::init(model, &mut start);
    let (draw, requires) = entries::draw(model, &mut start);
    let forward = entries::forward(model, &mut start, options.taps);
    let metrics = entries::metrics(model, &mut start);
    let backbone = entries::backbone(model, &mut start);
    let Start { tables, schedules, scalars, .. } = start;
    Built { tables, schedules, scalars, init, draw, requires, forward, metrics, backbone }
}
