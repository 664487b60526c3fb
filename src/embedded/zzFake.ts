process.stdin.on("end", () => {}).resume()
setInterval(() => {}, 1000)
if (process.argv[2] === "ready") process.stdout.write(`${process.pid}\n`)
