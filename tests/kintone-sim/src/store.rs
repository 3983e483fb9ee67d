//! The data of an account: apps with their records, and files.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use jiff::civil::Date;
use serde_json::{Map, Value, json};

use crate::app::AppSettings;
use crate::body::UploadedFile;
use crate::cursors::Cursors;
use crate::error::ApiError;

/// What an account holds.
pub(crate) struct Store {
    apps: BTreeMap<u64, App>,
    files: HashMap<String, StoredFile>,
    pub(crate) cursors: Cursors,
    counted: BTreeMap<u64, u64>,
    counted_on: Date,
}

/// A file that can be downloaded.
#[derive(Clone, Debug)]
pub(crate) struct StoredFile {
    pub(crate) name: String,
    pub(crate) content_type: String,
    pub(crate) length: u64,
    pub(crate) content: Option<Bytes>,
}

/// An app and its records.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) settings: AppSettings,
    pub(crate) records: BTreeMap<u64, Record>,
    next: u64,
}

/// A record: its revision and its values by field code.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) revision: u64,
    pub(crate) values: Map<String, Value>,
}

/// A change of one record, checked against the whole batch before any is made.
pub(crate) struct Change {
    pub(crate) id: u64,
    /// The revision that the client expects; `None`: any.
    pub(crate) revision: Option<u64>,
    pub(crate) values: Map<String, Value>,
}

/// A record to change, or to add when no record has this value in this field.
pub(crate) struct Upsert {
    pub(crate) field: String,
    pub(crate) value: Value,
    pub(crate) values: Map<String, Value>,
}

impl Store {
    pub(crate) fn new(apps: &[AppSettings]) -> Self {
        let mut store = Self {
            apps: BTreeMap::new(),
            files: HashMap::new(),
            cursors: Cursors::default(),
            counted: BTreeMap::new(),
            counted_on: today(),
        };
        store.adopt(apps);
        store
    }

    /// Takes over the settings of apps: new ones with their records, known ones without.
    pub(crate) fn adopt(&mut self, apps: &[AppSettings]) {
        self.apps
            .retain(|id, _| apps.iter().any(|settings| settings.id == *id));
        for settings in apps {
            self.apps
                .entry(settings.id)
                .or_insert_with(|| App::new(settings))
                .settings
                .clone_from(settings);
        }
    }

    pub(crate) fn app(&mut self, id: u64) -> Result<&mut App, ApiError> {
        self.apps.get_mut(&id).ok_or_else(|| {
            ApiError::new(
                404,
                "GAIA_AP01",
                format!("The app (ID: {id}) not found. The app may have been deleted."),
                format!(
                    "指定したアプリ（id: {id}）が見つかりません。削除されている可能性があります。"
                ),
            )
        })
    }

    /// The records of all apps, to be put back by [`Store::restore`].
    pub(crate) fn saved(&self) -> BTreeMap<u64, App> {
        self.apps.clone()
    }

    /// Undoes what has become of the records since.
    pub(crate) fn restore(&mut self, saved: BTreeMap<u64, App>) {
        self.apps = saved;
    }

    /// Counts one request of an app in the window of the daily quota.
    pub(crate) fn count(&mut self, app: u64) {
        self.turn_day();
        *self.counted.entry(app).or_default() += 1;
    }

    pub(crate) fn requests_today(&mut self) -> BTreeMap<u64, u64> {
        self.turn_day();
        self.counted.clone()
    }

    fn turn_day(&mut self) {
        let today = today();
        if self.counted_on != today {
            self.counted_on = today;
            self.counted.clear();
        }
    }

    /// Keeps an uploaded file; gives its key.
    pub(crate) fn put_file(&mut self, file: UploadedFile) -> String {
        let key = crate::draw::uuid();
        let stored = StoredFile {
            name: file.name,
            content_type: file.content_type,
            length: file.length,
            content: file.content,
        };
        self.files.insert(key.clone(), stored);
        key
    }

    pub(crate) fn file(&self, key: &str) -> Option<&StoredFile> {
        self.files.get(key)
    }

    /// Turns the upload keys in a FILE field's value into what the record shows: download keys, names and sizes.
    pub(crate) fn attach(&mut self, value: &Value) -> Result<Value, ApiError> {
        let mut attached = Vec::new();
        for entry in value.as_array().into_iter().flatten() {
            let key = entry["fileKey"].as_str().unwrap_or_default();
            let file = self.files.get(key).cloned().ok_or_else(|| no_file(key))?;
            let shown = format!(
                "{}{}",
                crate::draw::uuid().replace('-', ""),
                crate::draw::uuid().replace('-', "")
            );
            attached.push(json!({
                "fileKey": shown, "name": file.name, "contentType": file.content_type, "size": file.length.to_string(),
            }));
            self.files.insert(shown, file);
        }
        Ok(Value::Array(attached))
    }
}

/// GAIA_BL01 about a key.
pub(crate) fn no_file(key: &str) -> ApiError {
    ApiError::new(
        404,
        "GAIA_BL01",
        format!("The specified file (id: {key}) not found."),
        format!("指定したファイル（id: {key}）が見つかりません。"),
    )
}

impl App {
    fn new(settings: &AppSettings) -> Self {
        let mut app = Self {
            settings: settings.clone(),
            records: BTreeMap::new(),
            next: 1,
        };
        for values in &settings.records {
            app.insert(values.clone());
        }
        app
    }

    pub(crate) fn record(&self, id: u64) -> Result<&Record, ApiError> {
        self.records.get(&id).ok_or_else(|| no_record(id))
    }

    /// Adds records, all or none; gives their numbers.
    pub(crate) fn add(&mut self, batch: Vec<Map<String, Value>>) -> Result<Vec<u64>, ApiError> {
        let mut seen = Vec::new();
        for (place, values) in batch.iter().enumerate() {
            self.check_unique(values, &seen, |code| {
                format!("records[{place}].{code}.value")
            })?;
            seen.push((None, values));
        }
        Ok(batch
            .into_iter()
            .map(|values| self.insert(values))
            .collect())
    }

    /// Changes records, all or none; gives their new revisions.
    pub(crate) fn change(&mut self, batch: Vec<Change>) -> Result<Vec<(u64, u64)>, ApiError> {
        let mut seen = Vec::new();
        for (place, change) in batch.iter().enumerate() {
            let record = self.record(change.id)?;
            if change
                .revision
                .is_some_and(|revision| revision != record.revision)
            {
                return Err(stale_revision());
            }
            seen.push((Some(change.id), &change.values));
            self.check_unique(&change.values, &seen, |code| {
                format!("records[{place}].{code}.value")
            })?;
        }
        Ok(batch
            .into_iter()
            .filter_map(|change| {
                let record = self.records.get_mut(&change.id)?;
                record.values.extend(change.values);
                record.revision += 1;
                Some((change.id, record.revision))
            })
            .collect())
    }

    /// Changes the records that are there and adds the others, all or none; gives their numbers and revisions.
    pub(crate) fn upsert(&mut self, batch: Vec<Upsert>) -> Result<Vec<(u64, u64)>, ApiError> {
        let before = self.clone();
        let mut done = Vec::new();
        for (place, entry) in batch.into_iter().enumerate() {
            match self.upsert_one(entry, place) {
                Ok(changed) => done.push(changed),
                Err(error) => {
                    *self = before;
                    return Err(error);
                }
            }
        }
        Ok(done)
    }

    fn upsert_one(&mut self, entry: Upsert, place: usize) -> Result<(u64, u64), ApiError> {
        let id = self.find(&entry.field, &entry.value);
        let mut values = entry.values;
        if id.is_none() {
            values.insert(entry.field, json!(text(&entry.value)));
        }
        self.check_unique(&values, &[(id, &values)], |code| {
            format!("records[{place}].{code}.value")
        })?;
        let Some(id) = id else {
            return Ok((self.insert(values), 1));
        };
        let record = self.records.get_mut(&id).ok_or_else(|| no_record(id))?;
        record.values.extend(values);
        record.revision += 1;
        Ok((id, record.revision))
    }

    /// Deletes records, all or none.
    pub(crate) fn delete(&mut self, batch: &[(u64, Option<u64>)]) -> Result<(), ApiError> {
        for (id, revision) in batch {
            let record = self.record(*id)?;
            if revision.is_some_and(|revision| revision != record.revision) {
                return Err(stale_revision());
            }
        }
        for (id, _) in batch {
            self.records.remove(id);
        }
        Ok(())
    }

    /// The record with this value in a unique field.
    pub(crate) fn find(&self, field: &str, value: &Value) -> Option<u64> {
        self.records
            .iter()
            .find(|(_, record)| record.values.get(field).map(text) == Some(text(value)))
            .map(|(id, _)| *id)
    }

    fn insert(&mut self, values: Map<String, Value>) -> u64 {
        let id = self.next;
        self.next += 1;
        self.records.insert(
            id,
            Record {
                revision: 1,
                values,
            },
        );
        id
    }

    /// No unique value may be another record's, in the app or earlier in the batch (`seen`; a changed record's own value is its own).
    fn check_unique(
        &self,
        values: &Map<String, Value>,
        seen: &[(Option<u64>, &Map<String, Value>)],
        path: impl Fn(&str) -> String,
    ) -> Result<(), ApiError> {
        let own = seen
            .last()
            .filter(|(_, last)| std::ptr::eq(*last, values))
            .and_then(|(id, _)| *id);
        for field in self.settings.fields.iter().filter(|field| field.unique) {
            let Some(value) = values.get(&field.code).map(text) else {
                continue;
            };
            let same = |values: &Map<String, Value>| {
                values.get(&field.code).map(text).as_ref() == Some(&value)
            };
            let in_app = self
                .records
                .iter()
                .any(|(id, record)| Some(*id) != own && same(&record.values));
            let in_batch = seen
                .iter()
                .any(|(_, other)| !std::ptr::eq(*other, values) && same(other));
            if !value.is_empty() && (in_app || in_batch) {
                return Err(ApiError::invalid(
                    &path(&field.code),
                    "This value already exists in another record.",
                    "値がほかのレコードと重複しています。",
                ));
            }
        }
        Ok(())
    }
}

/// A value as the text that comparisons use.
pub(crate) fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn no_record(id: u64) -> ApiError {
    ApiError::new(
        404,
        "GAIA_RE01",
        format!("The specified record (ID: {id}) is not found."),
        format!("指定したレコード（id: {id}）が見つかりません。"),
    )
}

fn stale_revision() -> ApiError {
    ApiError::new(
        409,
        "GAIA_CO02",
        "The revision is not the latest. Someone may update a record.",
        "指定したrevisionは最新ではありません。ほかのユーザーがレコードを更新した可能性があります。",
    )
}

/// The day of the quota's window: it turns at 09:00 JST, which is midnight UTC.
fn today() -> Date {
    jiff::Timestamp::now()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date()
}
