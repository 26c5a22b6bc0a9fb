//! What stops a run that has gone wrong, before anything of it is saved.

use crate::device::StepReport;
use crate::error::{Error, Result};

/// Fails if the loss or a gradient is no number.
pub fn check(report: &StepReport, step: u64) -> Result<()> {
    let cure = "nothing was saved since the last checkpoint; lower the learning rate, clip gradients, or use `f32`";
    if !report.loss.is_finite() {
        return Err(Error::failed(format!("the loss of step {step} is {}; {cure}", report.loss)));
    }
    for (network, norm) in &report.grad_norm {
        if !norm.is_finite() {
            return Err(Error::failed(format!("the gradient of `{network}` has norm {norm} at step {step}; {cure}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_stops_the_run() {
        let good = StepReport { loss: 1.0, grad_norm: vec![("encoder".into(), 2.0)], ..StepReport::default() };
        assert_eq!(check(&good, 1), Ok(()));
        let nan = StepReport { loss: f64::NAN, ..good.clone() };
        assert!(check(&nan, 7).unwrap_err().to_string().starts_with("the loss of step 7 is NaN; "));
        let infinite = StepReport { grad_norm: vec![("encoder".into(), f64::INFINITY)], ..good };
        assert!(check(&infinite, 7).unwrap_err().to_string().starts_with("the gradient of `encoder` has norm inf"));
    }
}
