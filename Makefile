# Each target first makes sure that the system packages it needs are there.
.PHONY: demo test check bench packages

packages:
	@sh scripts/system-packages.sh

# Compiles models/tiny.vjepa, trains it on examples/clips, and fails unless the loss falls.
demo: packages
	cargo build --release --workspace
	sh scripts/demo.sh

# Every test of the workspace; no network, no GPU.
test: packages
	cargo test --workspace

# Format, lints, documentation.
check: packages
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Times training steps and compares them with what is aimed at; beside PyTorch's with PYTHON=... (tests/bench/settings.rs).
bench: packages
	cargo build --release --workspace
	target/release/vjepa-bench
