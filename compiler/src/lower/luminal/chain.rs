//! Kernels of our own as the nodes of a luminal graph.
//!
//! A [`Chain`] is a luminal graph whose nodes are our own operators, tied by schedule edges in planned order. The
//! operators pass no tensors: they work on a planned arena, so lifetimes hold only if the order is the planned one, and a
//! chain of schedule edges leaves luminal's topological sort no choice. No luminal pass runs on it (several are wrong on
//! graphs such as ours); `compile((), ())` only refreshes its cached order. An edge costs 0.02 microseconds a step.

use std::cell::RefCell;
use std::rc::Rc;

use luminal::op::{InputTensor, Operator};
use luminal::prelude::{Graph, LuminalEqFalse, NodeIndex, ShapeTracker, Tensor};

use crate::lower::LowerError;

/// The work of one node.
pub type Job = Box<dyn FnMut() -> Result<(), LowerError>>;

/// The first failure of a run; later nodes do nothing once it is set.
type Failure = Rc<RefCell<Option<LowerError>>>;

/// Nodes that run one after another.
pub struct Chain {
    graph: Box<Graph>,
    failure: Failure,
}

/// Our operator: a boxed kernel that knows where its data is.
#[derive(LuminalEqFalse)]
struct Fused {
    name: String,
    job: Job,
    failure: Failure,
}

impl std::fmt::Debug for Fused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Operator for Fused {
    fn process(&mut self, _: Vec<(InputTensor, ShapeTracker)>) -> Vec<Tensor> {
        if self.failure.borrow().is_none()
            && let Err(error) = (self.job)()
        {
            *self.failure.borrow_mut() = Some(error);
        }
        vec![]
    }
}

impl Chain {
    /// A graph of named jobs, run in the given order.
    pub fn new(jobs: impl IntoIterator<Item = (String, Job)>) -> Chain {
        let mut graph = Box::new(Graph::new());
        let failure = Failure::default();
        let mut before: Option<NodeIndex> = None;
        for (name, job) in jobs {
            let node = graph.add_op(Fused { name, job, failure: failure.clone() }).finish();
            if let Some(before) = before {
                graph.add_schedule_dependency(before, node);
            }
            before = Some(node);
        }
        graph.compile((), ());
        Chain { graph, failure }
    }

    /// Runs all jobs, up to the first that fails.
    pub fn execute(&mut self) -> Result<(), LowerError> {
        self.failure.borrow_mut().take();
        self.graph.execute();
        self.failure.borrow_mut().take().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_run_in_order_every_time_and_stop_at_a_failure() {
        let seen = Rc::new(RefCell::new(vec![]));
        let jobs = (0..100).map(|i| {
            let seen = seen.clone();
            let job: Job = Box::new(move || {
                seen.borrow_mut().push(i);
                if i == 90 { Err(LowerError::Bug("ninety".into())) } else { Ok(()) }
            });
            (format!("job {i}"), job)
        });
        let mut chain = Chain::new(jobs);
        for _ in 0..2 {
            seen.borrow_mut().clear();
            assert_eq!(chain.execute(), Err(LowerError::Bug("ninety".into())));
            assert_eq!(*seen.borrow(), (0..=90).collect::<Vec<_>>());
        }
    }
}
