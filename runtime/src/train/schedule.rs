//! The numbers of a step: schedules in f64, and what only the runtime knows.

use vjepac::program::Program;

use crate::error::{Error, Result};

/// The value of every scalar of the program's tables at `step` (from 1), for a call on `share` of the batch's clips.
pub fn scalars(program: &Program, step: u64, share: f64) -> Result<Vec<f64>> {
    let total = program.run.as_ref().map_or(0, |r| r.steps) as f64;
    let value = |spec: &vjepac::ir::graph::ScalarSpec| match spec.schedule {
        Some(i) => {
            let at = if spec.previous { step - 1 } else { step };
            Ok(program.schedules[i].at(at as f64, total))
        }
        None => match spec.name.as_str() {
            "step" => Ok(step as f64),
            "clips_share" => Ok(share),
            other => Err(Error::failed(format!("compiler bug: the runtime knows no scalar `{other}`"))),
        },
    };
    program.tables.scalars.iter().map(value).collect()
}

/// The scalar called `name` among the values of a step.
pub fn named(program: &Program, scalars: &[f64], name: &str) -> Option<f64> {
    program.tables.scalars.iter().position(|s| s.name == name).map(|i| scalars[i])
}

/// Momenta of the moving averages, by field, in the order of the tables.
pub fn momenta(program: &Program, scalars: &[f64]) -> Vec<(String, f64)> {
    let fields = program.tables.scalars.iter().zip(scalars);
    fields.filter_map(|(s, v)| s.name.strip_prefix("ema.").map(|field| (field.to_string(), *v))).collect()
}

#[cfg(test)]
mod tests {
    use vjepac::ir::graph::{ScalarSpec, Tables};
    use vjepac::model::Schedule;
    use vjepac::program::RunSettings;

    use super::*;

    #[test]
    fn rates_are_read_at_the_step_and_momenta_at_the_one_before() {
        let scalar = |name: &str, schedule, previous| ScalarSpec { name: name.into(), schedule, previous };
        let program = Program {
            tables: Tables {
                scalars: vec![
                    scalar("lr", Some(0), false),
                    scalar("ema.target_encoder", Some(0), true),
                    scalar("step", None, false),
                    scalar("clips_share", None, false),
                ],
                ..Tables::default()
            },
            schedules: vec![Schedule::Ramp(0.0, 8.0)],
            run: Some(RunSettings { data: vec![], batch: 1, group: 0, steps: 4, seed: 0, precision: "f32".into() }),
            ..Program::default()
        };
        let at = scalars(&program, 3, 0.5).unwrap();
        assert_eq!(at, [6.0, 4.0, 3.0, 0.5]);
        assert_eq!(named(&program, &at, "lr"), Some(6.0));
        assert_eq!(momenta(&program, &at), [("target_encoder".to_string(), 4.0)]);
    }
}
