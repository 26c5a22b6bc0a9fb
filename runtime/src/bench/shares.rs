//! How a step's time and the machine's rate divide among products, attention and everything else.

use vjepac::ir::kind::Kind;
use vjepac::plan::work::Work;

/// Shares of the machine's rate and of a step's time; `None` where no time by op is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// Rate of the products, of the machine's.
    pub products: Option<f64>,
    /// Rate of attention, of the machine's.
    pub attention: Option<f64>,
    /// Time that is neither, of the step's.
    pub outside: Option<f64>,
}

impl Shares {
    /// From a step's arithmetic, its seconds by op and as a whole, and the machine's rate.
    pub fn new(work: &[Work], by_op: &[(String, f64)], seconds: f64, rate: f64) -> Shares {
        if by_op.is_empty() {
            return Shares::default();
        }
        let of = |kind: Kind| -> (f64, f64) {
            let ops = || work.iter().filter(|w| w.kind == kind);
            let timed = by_op.iter().filter(|(op, _)| ops().any(|w| w.op == op));
            (ops().map(|w| w.flops).sum(), timed.map(|(_, seconds)| seconds).sum())
        };
        let (products, attention) = (of(Kind::Product), of(Kind::Attention));
        let share = |(flops, seconds): (f64, f64)| (seconds > 0.0).then_some(flops / seconds / rate);
        Shares {
            products: share(products),
            attention: share(attention),
            outside: Some((1.0 - (products.1 + attention.1) / seconds).max(0.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_divides_into_products_attention_and_the_rest() {
        let work = [
            Work { op: "linear", kind: Kind::Product, flops: 60.0 },
            Work { op: "einsum", kind: Kind::Product, flops: 20.0 },
            Work { op: "attention", kind: Kind::Attention, flops: 10.0 },
        ];
        let by_op = [("linear", 2.0), ("gelu", 1.0), ("einsum", 2.0), ("attention", 2.0)];
        let by_op = by_op.map(|(op, seconds)| (op.to_string(), seconds));
        let shares = Shares::new(&work, &by_op, 8.0, 40.0);
        assert_eq!(shares, Shares { products: Some(0.5), attention: Some(0.125), outside: Some(0.25) });
        assert_eq!(Shares::new(&work, &[], 8.0, 40.0), Shares::default(), "nothing was timed");
        let alone = Shares::new(&work[..1], &by_op[..1], 8.0, 40.0);
        assert_eq!(alone.attention, None, "there is no attention");
    }
}
