// The command line of tusd v2.8.0: -flag, -flag=value, -flag value, also with two dashes. Unknown flags are an error.

const SWITCHES = `behind-proxy enable-h2c enable-experimental-protocol disable-download disable-termination disable-cors
  cors-allow-credentials s3-disable-content-hashes s3-disable-ssl s3-transfer-acceleration s3-log-api-calls expose-metrics
  expose-pprof show-greeting verbose show-startup-logs`.split(/\s+/);
const DEFAULTS = {
  host: "0.0.0.0", port: "8080", "base-path": "/files/", "max-size": "0", "cors-allow-origin": ".*", "cors-allow-methods": "",
  "cors-allow-headers": "", "cors-max-age": "86400", "cors-expose-headers": "", "upload-dir": "./data", "s3-bucket": "",
  "s3-object-prefix": "", "s3-endpoint": "", "s3-part-size": String(50 << 20), "s3-min-part-size": String(5 << 20),
  "s3-max-buffered-parts": "20", "s3-concurrent-part-uploads": "10", "hooks-http": "", "hooks-http-forward-headers": "",
  "hooks-enabled-events": "pre-create,post-create,post-receive,post-terminate,post-finish", "hooks-http-retry": "3",
  "metrics-path": "/metrics", "log-format": "text",
};
const DURATIONS = {
  "progress-hooks-interval": "1s", "hooks-http-backoff": "1s", "network-timeout": "60s", "shutdown-timeout": "10s",
  "acquire-lock-timeout": "20s", "request-completion-timeout": "10s",
};
const UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

function fail(message) {
  console.error(`Failed to parse flags: ${message}`);
  process.exit(2);
}

function parse(words) {
  const found = { ...DEFAULTS, ...DURATIONS, ...Object.fromEntries(SWITCHES.map((name) => [name, false])) };
  for (let i = 0; i < words.length; i++) {
    const [, name, value] = words[i].match(/^--?([^=]+)(?:=(.*))?$/) ?? fail(`unexpected ${words[i]}`);
    if (!(name in found)) fail(`flag provided but not defined: -${name}`);
    if (SWITCHES.includes(name)) found[name] = value === undefined || ["1", "t", "true", "T", "TRUE", "True"].includes(value);
    else found[name] = value ?? words[++i] ?? fail(`flag needs an argument: -${name}`);
  }
  for (const name in DURATIONS) {
    const [, number, unit] = found[name].match(/^([\d.]+)(ms|s|m|h)$/) ?? fail(`invalid value for -${name}: ${found[name]}`);
    found[name] = Number(number) * UNITS[unit];
  }
  if (found["s3-object-prefix"]) fail("this stand-in knows no -s3-object-prefix");
  if (!found["s3-bucket"]) fail("this stand-in has no file store: -s3-bucket is needed");
  return found;
}

export const flags = parse(process.argv.slice(2));
