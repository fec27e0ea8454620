defmodule Image.ZeroShot.Test.Upload do
  @moduledoc false
  defstruct [:path]

  defimpl Image.ZeroShot.Source do
    def prepare(%{path: :nonsense}, _limits), do: {:ok, "nonsense"}
    def prepare(%{path: :crash}, _limits), do: raise("no such luck")
    def prepare(%{path: {:answer, answer}}, _limits), do: answer
    def prepare(%{path: {:call, fun}}, _limits), do: fun.()
    def prepare(%{path: nil}, _limits), do: nil
    def prepare(upload, limits), do: Image.ZeroShot.Source.prepare({:path, upload.path}, limits)
  end
end
