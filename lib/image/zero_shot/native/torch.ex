defmodule Image.ZeroShot.Native.Torch do
  @moduledoc false

  # The functions of `native/nif_torch`, which brings libtorch into the VM. Call
  # `Native.Loader.torch/0` first. Each returns `{:ok, value}` or `{:error, {reason, message}}`.

  use Image.ZeroShot.Native.Library

  @type model_ref :: reference()

  # Models
  def model_load(_directory, _settings), do: not_loaded()
  def model_info(_model), do: not_loaded()
  def model_unload(_model), do: not_loaded()
  def devices, do: not_loaded()

  # Pixels and prompts to unit vectors. The caller gets `{tag, answer}` as a message.
  def encode(_model, _tag, _pixels, _prompts), do: not_loaded()

  # The same with the parts of each picture's vector, that of the rest first
  def parts(_model, _tag, _pixels, _prompts), do: not_loaded()

  # For tests: fails on purpose, in one of the ways that must not end the VM
  def drill(_kind, _model), do: not_loaded()
end
