//! `file.json`: files up and down.

use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, HeaderValue};
use serde_json::json;

use super::Call;
use super::params::required;
use crate::answer::{Answer, Payload};
use crate::body::UploadedFile;
use crate::error::ApiError;
use crate::store::no_file;

/// Keys that begin so name a file of so many bytes that was never uploaded.
const SYNTHETIC: &str = "synthetic-";

/// `POST file.json`
pub(super) fn upload(call: &Call<'_>, file: Option<UploadedFile>) -> Result<Answer, ApiError> {
    call.identity.may_use_files(call.settings)?;
    let file = file.ok_or_else(|| required("file"))?;
    let key = call.store().put_file(file);
    Ok(Answer::done(&json!({"fileKey": key})))
}

/// `GET file.json`. The key of an upload fetches too, which kintone itself may refuse.
pub(super) fn download(call: &Call<'_>) -> Result<Answer, ApiError> {
    call.identity.may_use_files(call.settings)?;
    let key = call
        .params
        .text("fileKey")
        .ok_or_else(|| required("fileKey"))?;
    if let Some(length) = key
        .strip_prefix(SYNTHETIC)
        .and_then(|length| length.parse().ok())
    {
        let mut answer = Answer::new(StatusCode::OK, "application/octet-stream", "");
        answer.payload = Payload::Synthetic(length);
        answer.executed = true;
        return Ok(answer);
    }
    let store = call.store();
    let file = store.file(&key).ok_or_else(|| no_file(&key))?;
    let content = file.content.clone().ok_or_else(|| no_file(&key))?;
    let mut answer = Answer::new(StatusCode::OK, &file.content_type, content);
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{}\"", file.name)) {
        answer.headers.push((CONTENT_DISPOSITION, value));
    }
    answer.executed = true;
    Ok(answer)
}
