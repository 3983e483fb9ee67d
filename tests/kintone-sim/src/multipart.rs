//! The one file in a `multipart/form-data` body (RFC 7578), found while the body passes.

use bytes::{Buf, BytesMut};
use memchr::memmem;

/// Longest head of a part, bytes; a longer one makes the body not understood.
const PART_HEAD_MAX: usize = 16 * 1024;

/// A multipart body of which the part named `file` is wanted.
pub(crate) struct Multipart {
    /// CRLF, two hyphens and the boundary.
    delimiter: Vec<u8>,
    buffer: BytesMut,
    place: Place,
    part: Option<Part>,
}

/// What the head of the file's part says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) content_type: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before a delimiter, in the preamble or a part that is not wanted.
    Skipping,
    /// After a delimiter.
    PartHead,
    /// In the content of the file.
    File,
    /// After the file.
    Done,
    /// Not understood.
    Broken,
}

impl Multipart {
    /// A reader for this `Content-Type`; `None` when it is not multipart.
    pub(crate) fn of(content_type: &str) -> Option<Self> {
        let rest = strip_prefix_ignoring_case(content_type.trim_start(), "multipart/form-data")?;
        let boundary = parameter(rest, "boundary")?;
        // The first delimiter may stand at the very beginning, without its line end.
        Some(Self {
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            buffer: BytesMut::from(b"\r\n".as_slice()),
            place: Place::Skipping,
            part: None,
        })
    }

    /// The next bytes of the body; `content` gets the pieces of the file.
    pub(crate) fn feed(&mut self, data: &[u8], mut content: impl FnMut(&[u8])) {
        if matches!(self.place, Place::Done | Place::Broken) {
            return;
        }
        self.buffer.extend_from_slice(data);
        while self.step(&mut content) == Progress::More {}
    }

    /// The head of the file's part, when all of the file has passed.
    pub(crate) fn complete(self) -> Option<Part> {
        self.part.filter(|_| self.place == Place::Done)
    }

    fn step(&mut self, content: &mut impl FnMut(&[u8])) -> Progress {
        match self.place {
            Place::Skipping | Place::File => self.until_delimiter(content),
            Place::PartHead => self.part_head(),
            Place::Done | Place::Broken => Progress::NeedsData,
        }
    }

    fn until_delimiter(&mut self, content: &mut impl FnMut(&[u8])) -> Progress {
        let found = memmem::find(&self.buffer, &self.delimiter);
        // Without a delimiter, all but what may be its beginning is content.
        let until =
            found.unwrap_or_else(|| (self.buffer.len() + 1).saturating_sub(self.delimiter.len()));
        if self.place == Place::File && until > 0 {
            content(&self.buffer[..until]);
        }
        self.buffer.advance(until);
        if found.is_none() {
            return Progress::NeedsData;
        }
        self.buffer.advance(self.delimiter.len());
        self.place = if self.place == Place::File {
            Place::Done
        } else {
            Place::PartHead
        };
        Progress::More
    }

    fn part_head(&mut self) -> Progress {
        if self.buffer.starts_with(b"--") {
            self.place = Place::Broken;
            return Progress::NeedsData;
        }
        let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") else {
            if self.buffer.len() > PART_HEAD_MAX {
                self.place = Place::Broken;
            }
            return Progress::NeedsData;
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.part = file_part(&head);
        self.place = if self.part.is_some() {
            Place::File
        } else {
            Place::Skipping
        };
        self.buffer.advance(end + 4);
        Progress::More
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    More,
    NeedsData,
}

fn file_part(head: &str) -> Option<Part> {
    let mut disposition = None;
    let mut content_type = "application/octet-stream".to_owned();
    for line in head.split("\r\n") {
        if let Some(value) = strip_prefix_ignoring_case(line, "content-disposition:") {
            disposition = Some(value);
        } else if let Some(value) = strip_prefix_ignoring_case(line, "content-type:") {
            content_type = value.trim().to_owned();
        }
    }
    let disposition = disposition?;
    (parameter(disposition, "name").as_deref() == Some("file")).then(|| Part {
        name: parameter(disposition, "filename").unwrap_or_default(),
        content_type,
    })
}

/// The value of a parameter, quoted or not.
fn parameter(value: &str, name: &str) -> Option<String> {
    value.split(';').find_map(|parameter| {
        let (have, value) = parameter.split_once('=')?;
        have.trim()
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().trim_matches('"').to_owned())
    })
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}
