# Stand-ins for Jason and Pgvector where they are not there: what this library uses of them, as their
# sources have it (Jason 1.4, pgvector 0.4).

unless Code.ensure_loaded?(Jason) do
  defprotocol Jason.Encoder do
    @moduledoc false
    @fallback_to_any true
    def encode(value, opts)
  end

  defimpl Jason.Encoder, for: Any do
    def encode(%{__struct__: module}, _opts),
      do: raise(Protocol.UndefinedError, protocol: @protocol, value: module)
  end

  defmodule Jason.Encode do
    @moduledoc false
    def list(list, _opts) do
      ["[", list |> Enum.map(&:io_lib_format.fwrite_g/1) |> Enum.intersperse(","), "]"]
    end
  end

  defmodule Jason do
    @moduledoc false
    def encode!(value), do: value |> Jason.Encoder.encode({nil, nil}) |> IO.iodata_to_binary()
  end
end

unless Code.ensure_loaded?(Pgvector) do
  defmodule Pgvector do
    @moduledoc false
    defstruct [:data]
  end
end
