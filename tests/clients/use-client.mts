// Uploads a recording, submits a job, follows it and downloads what it made, with the types that openapi-typescript has
// built from the API's own description. Usage: use-client URL KEY RECORDING
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

const [url, key, recording] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${key}` } });

function present<T>(data: T | undefined, error: unknown): T {
  if (data === undefined) throw new Error(JSON.stringify(error));
  return data;
}

const content = readFileSync(recording);
const upload = await client.POST("/api/v1/files", {
  params: { query: { name: "recording.mp4" } },
  body: content as unknown as string,
  bodySerializer: (body) => body as unknown as BodyInit,
  headers: { "Content-Type": "application/octet-stream" },
});
const stored = present(upload.data, upload.error);
if (stored.bytes !== content.length) throw new Error("another size");

const submission: components["schemas"]["audio.extract.submission"] = {
  kind: "audio.extract",
  payload: { source: { upload: stored.id }, format: "mp3" },
};
const submitted = await client.POST("/api/v1/jobs", { body: submission });
const job = present(submitted.data, submitted.error);

// The stream ends with the job.
const stream = await client.GET("/api/v1/jobs/{id}/events", { params: { path: { id: job.id } }, parseAs: "text" });
const events = present(stream.data, stream.error);
if (!events.includes("event: snapshot") || !events.includes('"state":"succeeded"')) throw new Error(events);

const read = await client.GET("/api/v1/jobs/{id}", { params: { path: { id: job.id } } });
const result = present(read.data, read.error).result as components["schemas"]["audio.extract.result"];
const audio = result.files[0];
const download = await client.GET("/api/v1/files/{id}", { params: { path: { id: audio.file } }, parseAs: "arrayBuffer" });
const bytes = Buffer.from(present(download.data, download.error) as unknown as ArrayBuffer);
if (createHash("sha256").update(bytes).digest("hex") !== audio.sha256) throw new Error("another file");
console.log(`${job.id}: ${bytes.length} bytes`);
