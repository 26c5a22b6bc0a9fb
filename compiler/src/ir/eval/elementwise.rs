//! Elementwise functions.

use super::{Blocks, Ctx};
use crate::ir::op::{BinaryOp, DType, UnaryOp};

impl Ctx<'_> {
    pub(super) fn map(&self, f: impl Fn(f64) -> f64) -> Blocks {
        self.inputs[0].blocks.iter().map(|b| b.iter().map(|x| f(*x)).collect()).collect()
    }

    pub(super) fn zip(&self, f: impl Fn(f64, f64) -> f64) -> Blocks {
        let (x, y) = (&self.inputs[0].blocks, &self.inputs[1].blocks);
        x.iter().zip(y).map(|(x, y)| x.iter().zip(y).map(|(x, y)| f(*x, *y)).collect()).collect()
    }

    pub(super) fn unary(&self, op: UnaryOp) -> Blocks {
        match op {
            UnaryOp::Neg => self.map(|x| -x),
            UnaryOp::Exp => self.map(libm::exp),
            UnaryOp::Log => self.map(libm::log),
            UnaryOp::Sqrt => self.map(f64::sqrt),
            UnaryOp::Abs => self.map(f64::abs),
            UnaryOp::Sin => self.map(libm::sin),
            UnaryOp::Cos => self.map(libm::cos),
            UnaryOp::Tanh => self.map(libm::tanh),
            UnaryOp::Erf => self.map(libm::erf),
            UnaryOp::Floor => self.map(f64::floor),
            UnaryOp::Ceil => self.map(f64::ceil),
            UnaryOp::Round => self.map(f64::round_ties_even),
            UnaryOp::Sign => self.map(|x| if x == 0.0 { 0.0 } else { x.signum() }),
            UnaryOp::Not => self.map(|x| f64::from(x == 0.0)),
        }
    }

    pub(super) fn binary(&self, op: BinaryOp) -> Blocks {
        let whole = self.inputs[0].ty.dtype == DType::I32;
        match op {
            BinaryOp::Add => self.zip(|x, y| x + y),
            BinaryOp::Sub => self.zip(|x, y| x - y),
            BinaryOp::Mul => self.zip(|x, y| x * y),
            // Whole numbers divide downwards, as `Rem` needs.
            BinaryOp::Div if whole => self.zip(|x, y| (x / y).floor()),
            BinaryOp::Div => self.zip(|x, y| x / y),
            BinaryOp::Rem => self.zip(|x, y| x - y * (x / y).floor()),
            BinaryOp::Pow => self.zip(libm::pow),
            BinaryOp::Min => self.zip(|x, y| if y < x { y } else { x }),
            BinaryOp::Max => self.zip(|x, y| if y > x { y } else { x }),
            BinaryOp::Eq => self.zip(|x, y| f64::from(x == y)),
            BinaryOp::Ne => self.zip(|x, y| f64::from(x != y)),
            BinaryOp::Lt => self.zip(|x, y| f64::from(x < y)),
            BinaryOp::Le => self.zip(|x, y| f64::from(x <= y)),
            BinaryOp::Gt => self.zip(|x, y| f64::from(x > y)),
            BinaryOp::Ge => self.zip(|x, y| f64::from(x >= y)),
            BinaryOp::And => self.zip(|x, y| x * y),
            BinaryOp::Or => self.zip(|x, y| if x != 0.0 { x } else { y }),
        }
    }

    pub(super) fn select(&self) -> Blocks {
        let [c, x, y] = [0, 1, 2].map(|i| &self.inputs[i].blocks);
        let one = |b: usize| (0..c[b].len()).map(|i| if c[b][i] != 0.0 { x[b][i] } else { y[b][i] }).collect();
        (0..c.len()).map(one).collect()
    }

    /// To whole numbers by cutting towards zero, to bool by comparing with zero.
    pub(super) fn cast(&self) -> Blocks {
        match self.node.types[0].dtype {
            DType::I32 => self.map(f64::trunc),
            DType::Bool => self.map(|x| f64::from(x != 0.0)),
            DType::F32 | DType::Bf16 | DType::F64 => self.inputs[0].blocks.clone(),
        }
    }
}
