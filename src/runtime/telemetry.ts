/**
 * From 1.29 on onnxruntime's Linux libraries report their use to their maker unless this variable is set when they are loaded. Imported before whatever loads
 * them; a value that is set already stays.
 */
process.env['ORT_DISABLE_TELEMETRY'] ??= '1';
