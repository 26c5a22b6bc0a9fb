//! The tables that all entries share: slots, inputs, scalars, masks, sets, counts.

use crate::ir::graph::{
    Count, CountId, CountKind, Extent, InputSpec, MaskSpec, ScalarId, ScalarSpec, SegmentSet, Slot, SlotId, SlotKind,
    Tables,
};
use crate::ir::op::Which;
use crate::model::{AxisId, AxisSize, Model, Optimizer, Schedule, WeightId, WeightKind};

/// Scalars that the update and the loss need.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalarIds {
    /// Learning rate.
    pub lr: ScalarId,
    /// Weight decay.
    pub decay: ScalarId,
    /// Largest gradient norm, if there is one.
    pub clip: Option<ScalarId>,
    /// Step, from 1.
    pub step: ScalarId,
    /// Clips of this call of `grads` over the clips of the step.
    pub share: ScalarId,
}

/// Tables under construction.
#[derive(Clone, Debug)]
pub struct Start {
    /// The tables.
    pub tables: Tables,
    /// What scalars refer to.
    pub schedules: Vec<Schedule>,
    /// Well-known scalars.
    pub scalars: ScalarIds,
    /// Slot of each weight of the model.
    pub slots: Vec<SlotId>,
}

/// Tables of a model, before any entry is built.
pub fn start(model: &Model) -> Start {
    let mut tables = Tables { networks: model.networks.clone(), ..Tables::default() };
    let mut schedules = Vec::new();
    let (lr, decay) = match &model.train.optimizer {
        Optimizer::Adamw { lr, decay, .. } | Optimizer::Sgd { lr, decay, .. } => (lr, decay),
    };
    let lr = scalar(&mut tables, &mut schedules, "lr", Some(lr), false);
    let decay = scalar(&mut tables, &mut schedules, "weight_decay", Some(decay), false);
    let clip = model.train.clip_grad.as_ref().map(|c| scalar(&mut tables, &mut schedules, "clip_grad", Some(c), false));
    let step = scalar(&mut tables, &mut schedules, "step", None, false);
    let share = scalar(&mut tables, &mut schedules, "clips_share", None, false);
    let averages: Vec<ScalarId> = model
        .averages
        .iter()
        .map(|a| scalar(&mut tables, &mut schedules, &format!("ema.{}", a.name), Some(&a.momentum), true))
        .collect();
    let slots: Vec<SlotId> = (0..model.weights.len() as u32).map(SlotId).collect();
    for w in &model.weights {
        let slot_of = |of: &WeightId| slots[of.0 as usize];
        let kind = match &w.kind {
            WeightKind::Trained(network) => SlotKind::Trained { network: *network, decay: decays(&w.key, &w.stored) },
            WeightKind::Average(of, average) => SlotKind::Average { of: slot_of(of), momentum: averages[*average] },
            WeightKind::Frozen => SlotKind::Frozen,
            WeightKind::Buffer => SlotKind::Buffer,
        };
        tables.slots.push(Slot { key: w.key.clone(), shape: w.stored.clone(), kind });
    }
    tables.inputs = model.sources.iter().map(|s| s.spec.clone()).collect::<Vec<InputSpec>>();
    tables.masks = model
        .masks
        .iter()
        .map(|m| MaskSpec {
            name: m.name.clone(),
            tokens: model.bound(m.tokens),
            target_extra: m.target_extra.iter().map(|a| model.bound(*a)).collect(),
            context_extra: m.context_extra.iter().map(|a| model.bound(*a)).collect(),
        })
        .collect();
    tables.sets = model.sets.iter().map(|masks| SegmentSet { masks: masks.clone() }).collect();
    let scalars = ScalarIds { lr, decay, clip, step, share };
    Start { tables, schedules, scalars, slots }
}

/// The published rule: no decay where the key contains `bias` or the tensor has one stored dimension.
fn decays(key: &str, stored: &[usize]) -> bool {
    !key.contains("bias") && stored.len() != 1
}

/// Adds a scalar and the schedule it reads.
pub fn scalar(
    tables: &mut Tables,
    schedules: &mut Vec<Schedule>,
    name: &str,
    schedule: Option<&Schedule>,
    previous: bool,
) -> ScalarId {
    let schedule = schedule.map(|s| {
        schedules.push(s.clone());
        schedules.len() - 1
    });
    tables.scalars.push(ScalarSpec { name: name.into(), schedule, previous });
    ScalarId(tables.scalars.len() as u32 - 1)
}

/// The extent of an axis; counts are added to the tables when first met.
pub fn extent(model: &Model, tables: &mut Tables, axis: AxisId) -> Extent {
    match model.axis(axis).size {
        AxisSize::Static(n) => Extent::Static(n),
        AxisSize::Counted(set, Which::Context, bound) => Extent::Counted(count(tables, CountKind::Context(set), bound)),
        AxisSize::Counted(set, Which::Target, bound) => Extent::Counted(count(tables, CountKind::Target(set), bound)),
        AxisSize::Joined(a, b) => match (extent(model, tables, a), extent(model, tables, b)) {
            (Extent::Static(m), Extent::Static(n)) => Extent::Static(m + n),
            (Extent::Counted(c), Extent::Static(n)) | (Extent::Static(n), Extent::Counted(c)) => {
                Extent::Counted(count(tables, CountKind::Plus(c, n), model.bound(axis)))
            }
            (Extent::Counted(c), Extent::Counted(d)) => {
                Extent::Counted(count(tables, CountKind::Sum(c, d), model.bound(axis)))
            }
        },
    }
}

/// The id of a count, added if new.
fn count(tables: &mut Tables, kind: CountKind, bound: usize) -> CountId {
    if let Some(i) = tables.counts.iter().position(|c| c.kind == kind) {
        return CountId(i as u32);
    }
    tables.counts.push(Count { kind, bound });
    CountId(tables.counts.len() as u32 - 1)
}
