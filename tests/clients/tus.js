// Uploads a file with tus-js-client in chunks, breaks off in the middle of one, and goes on as a program would that was
// started anew. Prints the address of the upload.
//
// node tus.js URL KEY FILE

const { createReadStream, statSync } = require("node:fs");
const { createRequire } = require("node:module");

const tus = createRequire(`${process.env.FOURMI_CLIENTS}/`)("tus-js-client");
const [url, key, file] = process.argv.slice(2);

const upload = (more) =>
  new tus.Upload(createReadStream(file), {
    endpoint: `${url}/api/v1/uploads`,
    headers: { Authorization: `Bearer ${key}` },
    metadata: { filename: "Été.bin", filetype: "video/mp4" },
    chunkSize: 4 * 1024 * 1024,
    retryDelays: [100, 200, 400, 800, 1600, 3200],
    onError: (error) => {
      console.error(String(error));
      process.exit(1);
    },
    ...more,
  });

// 10 MiB lie within the third chunk.
const first = upload({
  onProgress: async (sent) => {
    if (sent > 10 * 1024 * 1024 && !first.broken) {
      first.broken = true;
      await first.abort();
      goOn(first.url);
    }
  },
  onSuccess: () => process.exit(2),
});

function goOn(uploadUrl) {
  const second = upload({
    uploadUrl,
    onChunkComplete: (_, accepted) => {
      if (accepted > statSync(file).size) process.exit(3);
    },
    onSuccess: () => console.log(second.url),
  });
  second.start();
}

first.start();
