// The webcam: started when it is first needed, mirrored in the preview but not in photos.

import { byId, make, toast } from "./dom.js";

let stream = null;
const video = byId("video");
const canvas = document.createElement("canvas");

export const running = () => stream !== null && video.videoWidth > 0;

export async function start(deviceId) {
  if (!navigator.mediaDevices) {
    toast("Browsers give a page the camera on this machine or over HTTPS alone.");
    return false;
  }
  stop();
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      video: deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "environment", width: { ideal: 960 } },
    });
  } catch (error) {
    toast(error.name === "NotAllowedError" ? "The browser was not allowed to use the camera." : `There is no camera (${error.message}).`);
    return false;
  }
  video.srcObject = stream;
  await video.play();
  byId("camera").hidden = true;
  byId("camera-row").hidden = false;
  await listCameras();
  return true;
}

export function stop() {
  if (stream) for (const track of stream.getTracks()) track.stop();
  stream = null;
  video.srcObject = null;
  byId("camera").hidden = false;
  byId("camera-row").hidden = true;
}

async function listCameras() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  const cameras = devices.filter((device) => device.kind === "videoinput");
  byId("cameras").replaceChildren(...cameras.map((device, place) =>
    make("option", { value: device.deviceId }, device.label || `Camera ${place + 1}`)));
  byId("cameras").value = stream.getVideoTracks()[0].getSettings().deviceId;
  byId("cameras").parentElement.hidden = cameras.length < 2;
}

/** Return the present picture as a JPEG: all of it, or its central square scaled to a side. */
export function photo(side = null, quality = 0.92) {
  const { videoWidth: width, videoHeight: height } = video;
  const square = Math.min(width, height);
  const box = side ? [(width - square) / 2, (height - square) / 2, square, square] : [0, 0, width, height];
  [canvas.width, canvas.height] = side ? [side, side] : [width, height];
  canvas.getContext("2d").drawImage(video, ...box, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
}

byId("camera").addEventListener("click", () => start());
byId("stop").addEventListener("click", stop);
byId("cameras").addEventListener("change", (event) => start(event.target.value));
