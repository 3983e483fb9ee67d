//! Bodies as servers compress them.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

/// A way to send a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Plain,
    Gzip,
    /// `deflate` as RFC 9110 has it.
    Zlib,
    /// `deflate` as some servers send it.
    Deflate,
    Brotli,
}

impl Way {
    pub const ALL: [Self; 5] = [
        Self::Plain,
        Self::Gzip,
        Self::Zlib,
        Self::Deflate,
        Self::Brotli,
    ];

    /// Its `Content-Encoding`.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Gzip => Some("gzip"),
            Self::Zlib | Self::Deflate => Some("deflate"),
            Self::Brotli => Some("br"),
        }
    }
}

/// `body` in that way.
pub fn compress(way: Way, body: &[u8]) -> Vec<u8> {
    let level = Compression::default();
    match way {
        Way::Plain => body.to_vec(),
        Way::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), level);
            encoder.write_all(body).expect("memory");
            encoder.finish().expect("memory")
        }
        Way::Zlib => {
            let mut encoder = ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(body).expect("memory");
            encoder.finish().expect("memory")
        }
        Way::Deflate => {
            let mut encoder = DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(body).expect("memory");
            encoder.finish().expect("memory")
        }
        Way::Brotli => {
            let mut compressed = Vec::new();
            brotli::CompressorWriter::new(&mut compressed, 4096, 5, 22)
                .write_all(body)
                .expect("memory");
            compressed
        }
    }
}
