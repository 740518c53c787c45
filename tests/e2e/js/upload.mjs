// Uploads a file with tus-js-client, as a browser or an Electron app would.
// node upload.mjs URL FILE MODE [STOP_AT]; prints one line of JSON.
import { createReadStream, readFileSync, statSync } from 'node:fs'
import { Upload } from 'tus-js-client'

const [url, file, mode, stopAt] = process.argv.slice(2)
const size = statSync(file).size
let requests = 0
// a stream of unknown length makes this client's last, empty request hang in node: there it gets the bytes themselves
const source = mode === 'deferred' ? readFileSync(file) : createReadStream(file)
const upload = new Upload(source, {
  uploadUrl: url,
  chunkSize: mode === 'deferred' ? 4 * 2 ** 20 : 8 * 2 ** 20,
  uploadSize: mode === 'deferred' ? null : size,
  uploadLengthDeferred: mode === 'deferred',
  overridePatchMethod: mode === 'override',
  headers: mode === 'deferred' ? {} : { 'Upload-Length': String(size) },
  retryDelays: [100, 200, 400, 800, 1600, 3200],
  onAfterResponse: () => {
    requests += 1
  },
  onProgress: (sent) => {
    if (stopAt && sent >= Number(stopAt)) {
      upload.abort().then(() => end({ stopped: sent }))
    }
  },
  onSuccess: () => end({ done: true }),
  onError: (error) => end({ error: error.message, status: error.originalResponse?.getStatus() }),
})
let ended = false
function end(what) {
  if (!ended) {
    ended = true
    console.log(JSON.stringify({ ...what, requests }))
    process.exit(0)
  }
}
upload.start()
