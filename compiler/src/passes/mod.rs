//! Passes over `Graph`, in order.
