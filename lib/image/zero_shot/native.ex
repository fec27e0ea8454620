defmodule Image.ZeroShot.Native do
  @moduledoc false

  # The functions of `native/clip_nif`. Each answers `{:ok, value}` or `{:error, {reason, message}}`.
  #
  # A library once loaded cannot be exchanged in a running system, so nothing else lives here.
  # `load/1` is called when the application starts, not by `@on_load`: a release loads all its
  # modules at boot, in an order that no one promises, and `Native.Env` has to come first.

  # Else the compiler loads libtorch into the Mix VM, and the library cannot be replaced.
  @compile {:autoload, false}

  @type model_ref :: reference()

  @spec load(charlist()) :: :ok | {:error, {atom(), charlist()}}
  def load(path), do: :erlang.load_nif(path, 0)

  # Models of the Hub, on a dirty scheduler for as long as a download takes
  def hub_fetch(_name, _revision, _settings, _progress), do: not_loaded()
  def hub_cached(_name, _revision, _settings), do: not_loaded()

  # Models
  def model_load(_directory, _settings), do: not_loaded()
  def model_info(_model), do: not_loaded()
  def model_unload(_model), do: not_loaded()
  def devices, do: not_loaded()

  # Pictures and prompts to unit vectors
  def image_preprocess(_source, _preprocessing, _limits), do: not_loaded()
  def encode_images(_model, _pixels), do: not_loaded()
  def encode_texts(_model, _prompts), do: not_loaded()

  # Unit vectors to numbers
  def score(_image, _texts, _logit_scale), do: not_loaded()
  def cosine(_a, _b), do: not_loaded()

  # For tests: fails on purpose, in one of the ways that must not end the VM
  def drill(_kind, _model), do: not_loaded()

  defp not_loaded do
    :erlang.nif_error(%RuntimeError{
      message:
        "the native library of Image.ZeroShot is not loaded: start the application " <>
          ":image_zero_shot, or restart the system if this module was loaded anew"
    })
  end
end
