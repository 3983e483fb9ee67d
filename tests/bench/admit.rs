//! What a permit costs that is there at once.
fn main() {}
