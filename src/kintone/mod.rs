//! What kintone is: its domains, its calls, its answers. Pure knowledge, no I/O.

pub mod answer;
pub mod call;
pub mod cursor;
pub mod day;
pub mod domain;
pub mod help;
pub mod json;
