# Embeddings as JSON: a list of numbers.

# Part of Elixir from 1.18 on.
if Code.ensure_loaded?(JSON.Encoder) do
  defimpl JSON.Encoder, for: Image.ZeroShot.Embedding do
    def encode(embedding, encoder),
      do: embedding |> Image.ZeroShot.Embedding.to_list() |> JSON.Encoder.encode(encoder)
  end
end

# What `defimpl Jason.Encoder` would make. `defimpl` needs Jason to be compiled first, and Jason is not a
# dependency: it may be compiled later, or not at all. Protocols find their implementations by this
# name, and consolidation by this attribute.
defmodule Jason.Encoder.Image.ZeroShot.Embedding do
  @moduledoc false

  @compile {:no_warn_undefined, Jason.Encode}

  Module.register_attribute(__MODULE__, :__impl__, persist: true)
  @__impl__ [protocol: Jason.Encoder, for: Image.ZeroShot.Embedding]

  @doc false
  def __impl__(:for), do: Image.ZeroShot.Embedding
  def __impl__(:protocol), do: Jason.Encoder
  # For Elixir before 1.15.
  def __impl__(:target), do: __MODULE__

  def encode(embedding, opts),
    do: embedding |> Image.ZeroShot.Embedding.to_list() |> Jason.Encode.list(opts)
end
