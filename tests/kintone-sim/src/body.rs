//! Request bodies: read to their end, hashed as they pass, JSON kept, files kept up to a size.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use sha2::{Digest, Sha256};

use crate::head::{Head, hex};
use crate::ledger::Keep;
use crate::multipart::{Multipart, Part};

/// Largest JSON body that is understood, bytes; a longer one is read, hashed and refused.
const JSON_MAX: usize = 16 * 1024 * 1024;
/// Largest uploaded file that can be downloaded again, bytes; of a longer one only the length and the hash are kept.
const FILE_MAX: usize = 8 * 1024 * 1024;

/// A body that has been read.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) length: u64,
    /// Hex; empty when hashes are not kept.
    pub(crate) sha256: String,
    pub(crate) content: Bytes,
    pub(crate) size: Size,
    pub(crate) file: Option<UploadedFile>,
}

/// Whether a body was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Size {
    #[default]
    Kept,
    TooLarge,
}

/// The file of an upload.
#[derive(Clone, Debug)]
pub(crate) struct UploadedFile {
    pub(crate) name: String,
    pub(crate) content_type: String,
    pub(crate) length: u64,
    pub(crate) sha256: String,
    /// `None` when it was too large to keep.
    pub(crate) content: Option<Bytes>,
}

/// Reads a body to its end.
pub(crate) async fn take(
    mut body: Incoming,
    head: &Head,
    keep: Keep,
) -> Result<Taken, hyper::Error> {
    let mut taken = Taken::default();
    let mut hash = (keep == Keep::Executions).then(Sha256::new);
    let mut upload = Multipart::of(head.text("content-type")).map(Upload::new);
    let mut content = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        taken.length += data.len() as u64;
        if let Some(hash) = &mut hash {
            hash.update(&data);
        }
        if let Some(upload) = &mut upload {
            upload.feed(&data);
        } else if content.len() + data.len() > JSON_MAX {
            taken.size = Size::TooLarge;
        } else {
            content.extend_from_slice(&data);
        }
    }
    taken.content = content.freeze();
    taken.sha256 = hash.map(|hash| hex(&hash.finalize())).unwrap_or_default();
    taken.file = upload.and_then(Upload::file);
    Ok(taken)
}

/// The first part named `file` of a multipart body.
struct Upload {
    parts: Multipart,
    hash: Sha256,
    length: u64,
    content: Option<BytesMut>,
}

impl Upload {
    fn new(parts: Multipart) -> Self {
        Self {
            parts,
            hash: Sha256::new(),
            length: 0,
            content: Some(BytesMut::new()),
        }
    }

    fn feed(&mut self, data: &[u8]) {
        let (hash, length, content) = (&mut self.hash, &mut self.length, &mut self.content);
        self.parts.feed(data, |piece| {
            hash.update(piece);
            *length += piece.len() as u64;
            let room = content
                .as_ref()
                .is_some_and(|kept| kept.len() + piece.len() <= FILE_MAX);
            if !room {
                *content = None;
            }
            if let Some(content) = content {
                content.extend_from_slice(piece);
            }
        });
    }

    fn file(self) -> Option<UploadedFile> {
        let Part { name, content_type } = self.parts.complete()?;
        Some(UploadedFile {
            name,
            content_type,
            length: self.length,
            sha256: hex(&self.hash.finalize()),
            content: self.content.map(BytesMut::freeze),
        })
    }
}
