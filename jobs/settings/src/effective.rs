//! What is in effect, for `fourmi config`.

use std::path::PathBuf;

use crate::{
    Amqp, ClientSettings, Data, Database, Door, Environment, Insight, Keep, Listen, Logging, Media, Metrics, Outbox,
    People, PrivateRedis, Redis, Setting, SettingError, Streams, Traces, Uploads, Worker,
};

impl Environment {
    /// The value in effect, as far as it may be shown, and whether the environment set it.
    pub fn effective(&self, setting: &Setting) -> (String, bool) {
        match self.raw(setting) {
            Some(value) => (setting.shown(&value.to_string_lossy()), true),
            None => (self.default_of(setting), false),
        }
    }

    fn default_of(&self, setting: &Setting) -> String {
        let of_data = |path: fn(&Data) -> PathBuf| Data::read(self).map(|data| path(&data).display().to_string()).ok();
        match setting.name {
            "FOURMI_DATA" => of_data(|data| data.folder().to_owned()),
            "FOURMI_API_KEY_FILE" => of_data(Data::api_key),
            "FOURMI_SLOTS" => std::thread::available_parallelism().ok().map(|cores| cores.to_string()),
            _ => None,
        }
        .unwrap_or_else(|| setting.default.to_owned())
    }

    /// Checks every setting that is set, so that all mistakes are found at once.
    pub fn mistakes(&self) -> Vec<SettingError> {
        [
            Data::read(self).err(),
            Redis::optional(self).err(),
            PrivateRedis::read(self).err(),
            Database::read(self).err(),
            Listen::read(self).err(),
            Uploads::read(self).err(),
            Streams::read(self).err(),
            Door::read(self).err(),
            People::read(self).err(),
            Worker::read(self).err(),
            Outbox::read(self).err(),
            Keep::read(self).err(),
            Keep::sees_to_itself(self).err(),
            Insight::read(self).err(),
            Media::read(self).err(),
            Amqp::mistake(self),
            Metrics::read(self).err(),
            Logging::read(self).err(),
            Traces::read(self).err(),
            ClientSettings::read(self).err(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
