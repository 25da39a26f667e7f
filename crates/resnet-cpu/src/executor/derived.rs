//! What is computed from state and kept: folded weights, made anew when their sources changed.
